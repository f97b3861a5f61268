"""What users can reach is documented in numpydoc's way, as far as the signature leaves a question."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from numpydoc.validate import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOMS = ("methods", "results", "model_file", "estimators", "datasets", "train.config")
# a text; a summary that is one sentence; every parameter, in the order of the signature, with a text
CHECKS = {"GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "SS04", "PR01", "PR02", "PR03", "PR07"}


def documented(owner: object, path: str) -> Iterator[str]:
    """Yield the paths of the public functions and classes that *owner* holds, and of the methods of these."""
    for name, member in vars(owner).items():
        home = getattr(member, "__module__", None) or ""
        # Errors say all in one sentence, and a protocol's signature is not one that users call.
        ours = home.startswith("hyperspy_specml") and home != "hyperspy_specml.exceptions"
        ours = ours and not getattr(member, "_is_protocol", False)
        if ours and not name.startswith("_") and (inspect.isclass(member) or inspect.isfunction(member)):
            if not dataclasses.is_dataclass(member):  # users read its fields, documented as Attributes
                yield f"{path}.{name}"
            if inspect.isclass(member):
                yield from documented(member, f"{path}.{name}")


def reachable() -> Iterator[str]:
    for name in (f"hyperspy_specml.{room}" for room in ROOMS):
        if find_spec(name.rpartition(".")[0]) and find_spec(name):
            room = importlib.import_module(name)
            for lazy in getattr(room, "__all__", ()):
                getattr(room, lazy)  # now it is an attribute
            yield from documented(room, name)


@pytest.mark.parametrize("path", sorted(reachable()))
def test_docstring_says_what_the_signature_cannot(path: str) -> None:
    assert [text for code, text in validate(path)["errors"] if code in CHECKS] == []
