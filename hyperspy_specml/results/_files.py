"""Results in files: one native signal, and in its metadata the others, the report and the trained model."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import ModelFileError, NotPicklableError
from hyperspy_specml.models import TrainedModel, is_kept

if TYPE_CHECKING:
    import os
    from typing import Self

    from hyperspy.signal import BaseSignal

_SUFFIXES = (".hspy", ".zspy")


class Result:
    """What results have in common: they are saved in one file, and copied without their input."""

    model: TrainedModel

    def save(self, path: str | os.PathLike[str], *, overwrite: bool | None = None) -> Path:
        """Save it in one file, with its report and model; ``specml.load_result`` reads it.

        HyperSpy, too, opens the file: as the score maps, with the other signals in their metadata. The data that were
        analysed are not in it.

        Parameters
        ----------
        path
            With ".hspy" or ".zspy"; without a suffix it gets the first.
        overwrite
            What to do with a file that is there: True replaces it, False leaves it as it is, as in HyperSpy.
            By default it is an error.

        Returns
        -------
        where the file is

        Raises
        ------
        ModelFileExistsError
            There is a file, and `overwrite` was not said.
        ModelFileError
            The suffix is another one.
        """
        path = Path(path)
        path = path if path.suffix else path.with_suffix(_SUFFIXES[0])
        if path.suffix not in _SUFFIXES:
            raise ModelFileError(f"save({str(path)!r}): results are saved as .hspy or .zspy, not as {path.suffix!r}.")
        if is_kept(path, overwrite):
            return path
        maps, parts = self.taken_apart()
        whole = maps.deepcopy()
        whole.metadata.set_item("Specml.model", np.frombuffer(self.model.to_bytes(), np.uint8))
        whole.metadata.set_item("Specml.result", parts)
        whole.save(path, overwrite=True)
        return path

    def taken_apart(self) -> tuple[BaseSignal, dict[str, Any]]:
        """Return the maps that the file is for HyperSpy, and by name all else but the model; see `save`."""
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a result of its own; the input that residuals are made from is not copied."""
        names = [field.name for field in fields(self) if not field.name.startswith("_")]  # type: ignore[arg-type]
        own = {name: copy.deepcopy(getattr(self, name), memo) for name in names}
        return replace(self, **own)  # type: ignore[type-var]

    def __copy__(self) -> Self:
        return replace(self)  # type: ignore[type-var]

    def __reduce__(self) -> Any:
        """Refuse: HyperSpy signals cannot be pickled."""
        raise NotPicklableError(
            f"{type(self).__name__} holds HyperSpy signals, which cannot be pickled. Save it, result.save('run.hspy'), "
            "and read it in the other process, specml.load_result('run.hspy'); or send arrays, dec.scores.data."
        )


def read_result(path: str | os.PathLike[str]) -> tuple[BaseSignal, TrainedModel, dict[str, Any]]:
    """Return signal, model and parts of a file that `Result.save` wrote; the signal is without the others.

    Parameters
    ----------
    path
        Where it is.

    Raises
    ------
    ModelFileError
        It holds no result, or a damaged model.
    FileNotFoundError
        There is no such file.
    """
    import hyperspy.api as hs

    path = Path(path)
    path = path if path.suffix or path.exists() else path.with_suffix(_SUFFIXES[0])
    if not path.exists():
        raise FileNotFoundError(f"load_result({str(path)!r}): there is no such file.")
    advice = "Results are written by dec.save(path) and found.save(path); specml.load_model reads models alone"
    if path.suffix not in _SUFFIXES:
        raise ModelFileError(f"load_result({str(path)!r}): this is no .hspy or .zspy file. {advice}.")
    signal = hs.load(path)
    kept = getattr(signal, "metadata", None) and signal.metadata.get_item("Specml", None)
    if kept is None or not (kept.has_item("result") and kept.has_item("model")):
        raise ModelFileError(f"load_result({str(path)!r}): the file holds {signal!r}, but no result. {advice}.")
    parts = kept.result.as_dictionary()
    content = np.asarray(kept.model, np.uint8).tobytes()
    for name in ("model", "result"):
        delattr(kept, name)
    return signal, TrainedModel.from_bytes(content, name=f"{path}: metadata.Specml.model"), _signals(parts)


def _signals(parts: dict[str, Any]) -> dict[str, Any]:
    """Return parts with signals in place of what HyperSpy's dictionaries make of them."""
    from hyperspy.io import dict2signal

    return {
        name.removeprefix("_sig_"): dict2signal(value)
        if name.startswith("_sig_")
        else _signals(value)
        if isinstance(value, dict)
        else value
        for name, value in parts.items()
    }
