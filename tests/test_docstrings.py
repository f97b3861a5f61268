"""What users can reach is documented in numpydoc's form, as far as the signature leaves a question."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import TYPE_CHECKING

import pytest
from numpydoc.validate import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = ("methods", "results", "estimators", "data", "datasets", "encoders", "progress")
# a text; a summary that is one sentence; every parameter, in the order of the signature, with a text
CHECKS = {"GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "SS04", "PR01", "PR02", "PR03", "PR07"}


def documented(owner: object, path: str, module: str) -> Iterator[str]:
    """Yield the paths of public functions and classes that an owner holds, and of their methods.

    Only those that are defined in the module.
    """
    for name, member in vars(owner).items():
        home = getattr(member, "__module__", None) or ""
        # A protocol's signature is not one that users call.
        ours = home.startswith(module) and not getattr(member, "_is_protocol", False)
        if ours and not name.startswith("_") and (inspect.isclass(member) or inspect.isfunction(member)):
            if not dataclasses.is_dataclass(member):  # users read its fields, documented as Attributes
                yield f"{path}.{name}"
            if inspect.isclass(member):
                yield from documented(member, f"{path}.{name}", module)


def reachable() -> Iterator[str]:
    for name in (f"hyperspy_specml.{module}" for module in MODULES):
        module = importlib.import_module(name)
        for lazy in getattr(module, "__all__", ()):
            getattr(module, lazy)  # now it is an attribute
        yield from documented(module, name, name)


@pytest.mark.parametrize("path", sorted(reachable()))
def test_docstring_says_what_the_signature_cannot(path: str) -> None:
    assert [text for code, text in validate(path)["errors"] if code in CHECKS] == []
