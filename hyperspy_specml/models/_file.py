"""Files of trained models: one safetensors file, its description and a checksum among the metadata.

Reading one runs no code, and every changed bit is an error. The checksum is the SHA-256 of the whole file
with zeros in the checksum's own place. Descriptions are frozen dataclasses as nested numbers, texts and lists, and
come back with every type checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import secrets
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.numpy

from hyperspy_specml.exceptions import ModelFileError, ModelFileExistsError

SUFFIX = ".specml"
_KEY = "hyperspy_specml"  # among the metadata; the only one, because safetensors orders them at random
_VERSION = 2  # of the format: raised when a file can no longer be read by the version before
_MOST_BYTES = 1 << 30  # nothing larger is read: models of 4096 channels have a few megabytes
_MOST_HEADER = 1 << 24  # of the description: parsed JSON takes many times its size
_LENGTH = 8  # bytes before the header, by the rules of safetensors
# Quotes of a JSON text that is a value of another one are escaped once, those of its own texts twice: nothing
# that a user called anything can look like this.
_CHECKSUM = re.compile(rb'"hyperspy_specml":"{\\"sha256\\": \\"([0-9a-f]{64})\\"')
_NO_CHECKSUM = "0" * 64


def pack(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of a model file.

    Parameters
    ----------
    description
        What JSON can hold.
    arrays
        By name.
    """
    text = json.dumps({"sha256": _NO_CHECKSUM, "format_version": _VERSION, **description})
    return _sealed(safetensors.numpy.save({n: np.array(a, order="C") for n, a in arrays.items()}, {_KEY: text}))


def unpack(raw: bytes, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the description and the arrays that `pack` packed.

    Parameters
    ----------
    raw
        Content of a model file.
    name
        What the messages call it.

    Raises
    ------
    ModelFileError
        It is something else, damaged, or newer than this version reads.
    """
    header = raw[_LENGTH : _LENGTH + int.from_bytes(raw[:_LENGTH], "little")]
    found = _CHECKSUM.search(header)
    if not found:
        raise _error(name, "is no model file of hyperspy_specml, or its beginning is damaged")
    if _checksum(raw, _LENGTH + found.start(1)) != found[1].decode():
        raise _error(name, "is damaged or incomplete: its checksum is wrong. Copy or save it again")
    try:
        description = json.loads(json.loads(header)["__metadata__"][_KEY])
        version = description.pop("format_version")
        if version == _VERSION:
            del description["sha256"]
            return description, {n: array.copy() for n, array in safetensors.numpy.load(raw).items()}
    except (ValueError, LookupError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        raise _error(name, f"is not what its checksum promises ({error!r:.200})") from error
    if isinstance(version, int) and version < _VERSION:
        raise _error(name, f"has version {version} of the format, of a development version: train the model anew")
    known = f"only {_VERSION} is known here: update hyperspy_specml"
    raise _error(name, f"has version {version!r:.20} of the format, but {known}")


def write_model_file(path: str | os.PathLike[str], raw: bytes, *, overwrite: bool | None = None) -> Path:
    """Write a model file: whole, or not at all.

    Parameters
    ----------
    path
        Without a suffix it gets ".specml".
    raw
        Its content, see `pack`.
    overwrite
        What to do with a file that is there: True replaces it, False leaves it, None is an error.

    Returns
    -------
    where the file is

    Raises
    ------
    ModelFileExistsError
        There is a file, and `overwrite` was not said.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(SUFFIX)
    if is_kept(path, overwrite):
        return path
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)  # in one step, so that nobody ever reads half of it
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path


class Stored:
    """What is kept in a model file of its own."""

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Path:
        """Save it in one file, with all that it needs; `load_model`, or `load` of its own class, reads it.

        Parameters
        ----------
        path : path
            Without a suffix it gets ".specml".
        overwrite : bool, optional
            What to do with a file that is there: True replaces it, False leaves it as it is, as in HyperSpy.
            By default it is an error.

        Returns
        -------
        where the file is

        Raises
        ------
        ModelFileExistsError
            There is a file, and `overwrite` was not said.
        """
        return write_model_file(path, self.to_bytes(), overwrite=overwrite)

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str = "from_bytes(...)") -> Self:
        """Return what `to_bytes` wrote; no code of it is run."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return what was saved.

        Parameters
        ----------
        path : path
            Of the file.

        Raises
        ------
        ModelFileError
            It holds something else, or is damaged.
        """
        return cls.from_bytes(read_model_file(path), name=os.fspath(path))


def is_kept(path: Path, overwrite: bool | None) -> bool:
    """Return whether a file that is there stays as it is.

    Parameters
    ----------
    path, overwrite
        See `write_model_file`.

    Raises
    ------
    ModelFileExistsError
        There is a file, and `overwrite` was not said.
    """
    if overwrite is None and path.exists():
        way_out = "save(..., overwrite=True) replaces it, overwrite=False leaves it as it is"
        raise ModelFileExistsError(f"save({str(path)!r}): there is such a file. {way_out}.")
    return path.exists() and not overwrite


def read_model_file(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a model file; no other file is ever read into memory.

    Parameters
    ----------
    path
        Where it is. Without a suffix it is, as in `write_model_file`, one with ".specml".

    Raises
    ------
    ModelFileError
        It is something else: a folder, say, or larger than models are.
    FileNotFoundError
        It is not there; any other OSError where it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        example = min(path.glob(f"*{SUFFIX}"), default=path / f"model{SUFFIX}")
        raise ModelFileError(f"load_model({str(path)!r}): this is a folder. Name a file in it, e.g. {str(example)!r}.")
    path = path if path.suffix or path.exists() else path.with_suffix(SUFFIX)
    with path.open("rb") as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(_LENGTH)
        n_header = int.from_bytes(start, "little")
        if len(start) < _LENGTH or n_header > size - _LENGTH:
            raise _error(path, f"is no model file, or cut off: {size} bytes are fewer than its header needs")
        if n_header > _MOST_HEADER or size > _MOST_BYTES:
            raise _error(path, f"is no model file: {size} bytes, {n_header} of them header, are too many")
        return start + file.read(size - _LENGTH)


def _sealed(raw: bytes) -> bytes:
    """Return the file with its checksum in place of the zeros."""
    found = _CHECKSUM.search(raw, _LENGTH, _LENGTH + int.from_bytes(raw[:_LENGTH], "little"))
    assert found, "safetensors writes compact JSON"
    start = found.start(1)
    return raw[:start] + _checksum(raw, start).encode() + raw[start + len(_NO_CHECKSUM) :]


def _checksum(raw: bytes, start: int) -> str:
    """Return the SHA-256 of a file whose own checksum stands at `start`."""
    return hashlib.sha256(raw[:start] + _NO_CHECKSUM.encode() + raw[start + len(_NO_CHECKSUM) :]).hexdigest()


def _error(path: str | os.PathLike[str], what: str) -> ModelFileError:
    return ModelFileError(f"load_model({os.fspath(path)!r}): the file {what}.")


def to_plain(value: Any, *, curves: bool = True) -> Any:
    """Return a dataclass, array or container as what JSON can hold.

    Parameters
    ----------
    value
        Dataclasses, mappings, sequences, one-dimensional arrays, numbers, texts, None, however nested.
    curves
        Whether fields of dataclasses that are marked as curves are among it.
    """
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if curves or not field.metadata.get("curve")]
        value = {name: getattr(value, name) for name in names}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, curves=curves) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item, curves=curves) for item in value]
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
    hints, fields = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind) if f.init}
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
