"""Frozen dataclasses as nested numbers, texts and lists, and back with every type checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperspy_specml.statistics import RankCurve

# What annotations of dataclasses name and their modules import for type checkers only.
_NAMES = {"np": np, "RankCurve": RankCurve}


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


def from_plain(kind: Any, plain: Any, where: str) -> Any:
    """Return what `to_plain` made plain.

    Parameters
    ----------
    kind
        A dataclass, np.ndarray, a plain type, Any, or a tuple, dict or union of such.
    plain
        As read from a file.
    where
        What this is, for the messages.

    Raises
    ------
    ValueError
        It is not of that kind.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or (plain is None and type(None) in arguments):
        return plain
    if origin in (types.UnionType, typing.Union):  # only X | None occurs
        return from_plain(arguments[0], plain, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass_from_plain(kind, _of(dict, plain, where), where)
    if origin in (tuple, list):
        return origin(from_plain(arguments[0], x, f"{where}[{i}]") for i, x in enumerate(_of(list, plain, where)))
    if origin is dict:
        return {key: from_plain(arguments[1], x, f"{where}.{key}") for key, x in _of(dict, plain, where).items()}
    if kind is np.ndarray:
        return np.array([_of((int, float), x, where) for x in _of(list, plain, where)])
    return float(_of((int, float), plain, where)) if kind is float else _of(kind, plain, where)


def _dataclass_from_plain(kind: Any, plain: dict[str, Any], where: str) -> Any:
    hints, fields = typing.get_type_hints(kind, localns=_NAMES), {f.name: f for f in dataclasses.fields(kind) if f.init}
    if unknown := plain.keys() - fields.keys():
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, which this version does not know")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in plain:
            raise ValueError(f"{where}.{name} is missing")
    return kind(**{name: from_plain(hints[name], item, f"{where}.{name}") for name, item in plain.items()})


def _of(kind: type | tuple[type, ...], plain: Any, where: str) -> Any:
    """Return a value if it is of this type; True is no number."""
    if not isinstance(plain, kind) or (isinstance(plain, bool) and kind is not bool):
        raise ValueError(f"{where} is {plain!r:.60}, of the wrong type")
    return plain
