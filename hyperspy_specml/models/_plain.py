"""Frozen dataclasses as nested numbers, texts and lists, and back with every type checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np


def to_plain(value: Any) -> Any:
    """Return a dataclass, array or container as what JSON can hold.

    Parameters
    ----------
    value
        Dataclasses, mappings, sequences, one-dimensional arrays, numbers, texts, None, however nested.
    """
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def from_plain(kind: Any, plain: Any, *, names: Mapping[str, Any], where: str) -> Any:
    """Return what `to_plain` made plain.

    Parameters
    ----------
    kind
        A dataclass, np.ndarray, a plain type, Any, or a tuple, dict or union of such.
    plain
        As read from a file.
    names
        What the annotations of dataclasses name and their modules do not hold when they run.
    where
        What this is, for the messages.

    Raises
    ------
    ValueError
        It is not of that kind.
    """

    def inner(kind: Any, plain: Any, step: str) -> Any:
        return from_plain(kind, plain, names=names, where=where + step)

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return plain
    if origin in (types.UnionType, typing.Union):
        (other,) = (a for a in arguments if a is not type(None))  # only X | None occurs
        return None if plain is None else inner(other, plain, "")
    if dataclasses.is_dataclass(kind):
        return _dataclass_from_plain(kind, _of(dict, plain, where), names=names, where=where)
    if origin is tuple:
        return tuple(inner(arguments[0], item, f"[{i}]") for i, item in enumerate(_of(list, plain, where)))
    if origin is list:
        return [inner(arguments[0], item, f"[{i}]") for i, item in enumerate(_of(list, plain, where))]
    if origin is dict:
        return {key: inner(arguments[1], item, f".{key}") for key, item in _of(dict, plain, where).items()}
    if kind is np.ndarray:
        items = _of(list, plain, where)
        return np.array([_of((int, float), item, where) for item in items])
    return float(_of((int, float), plain, where)) if kind is float else _of(kind, plain, where)


def _dataclass_from_plain(kind: Any, plain: dict[str, Any], *, names: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind, localns=dict(names))
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    unknown = plain.keys() - fields.keys()
    if unknown:
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, which this version does not know")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in plain:
            raise ValueError(f"{where}.{name} is missing")
    return kind(
        **{name: from_plain(hints[name], item, names=names, where=f"{where}.{name}") for name, item in plain.items()}
    )


def _of(kind: type | tuple[type, ...], plain: Any, where: str) -> Any:
    """Return a value if it is of this type; True is no number."""
    if not isinstance(plain, kind) or (isinstance(plain, bool) and kind is not bool):
        raise ValueError(f"{where} is {plain!r:.60}, of the wrong type")
    return plain
