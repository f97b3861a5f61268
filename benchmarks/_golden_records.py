"""Flat records of `golden`: numbers and text looked up in reports and results by tables of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Records = dict[str, np.ndarray]
    Table = tuple[tuple[str, str], ...]  # name in the record, and where the value is: dots go deeper


def within(word: str, records: Mapping[str, np.ndarray]) -> Records:
    """Put a word before the names of records."""
    return {f"{word}/{name}": values for name, values in records.items()}


def of_signals(signals: Mapping[str, Any]) -> Records:
    """Return the data of the signals that there are."""
    found = {name: signal.data for name, signal in signals.items() if signal is not None}
    return {name: numbers(np.asarray(data)) for name, data in found.items()}


def pick(source: Any, table: Table) -> Records:
    """Return the values that a table names; what has parts itself becomes one record for each."""
    records: Records = {}
    for name, path in table:
        value = source
        for step in path.split("."):
            value = _step(value, step)
        records |= _leaves(name, value)
    return records


def numbers(value: Any) -> np.ndarray:
    """Return numbers as float64 and text as unicode; nested lists become flat, nothing becomes empty text."""
    if isinstance(value, list | tuple):
        value = np.array([*_flat(value)]) if value else np.empty(0)
    array = np.asarray("" if value is None else value)
    return array if array.dtype.kind == "U" else array.astype(np.float64)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield "" if value is None else value


def _step(value: Any, name: str) -> Any:
    """Look a name up in a mapping or object; in a list, in each of its items."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_step(item, name) for item in value]
    return value[name] if isinstance(value, dict) else getattr(value, name)


def _leaves(name: str, value: Any) -> Records:
    """Return a value under its name, the values of a mapping under name and key."""
    if not isinstance(value, dict):
        return {name: numbers(value)}
    parts = (_leaves(f"{name} {key}", item) for key, item in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}
