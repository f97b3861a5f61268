"""What a denoised signal keeps of its denoising: report and model, in its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import DenoiseReport, TrainedModel

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal


def denoise_report(signal: BaseSignal) -> DenoiseReport:
    """Return the report of a denoised signal, also of a copy or a part of it, saved and loaded or not.

    Parameters
    ----------
    signal
        What ``s.denoise_dae()`` returned. The report is under ``metadata.Specml``.

    Raises
    ------
    OptionError
        The signal has no such report.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> clean = s.denoise_dae(context="spatial", show_progressbar=False)
    >>> specml.denoise_report(clean).hold_out
    'exact'
    """
    kept = _kept(signal, "denoise_report")
    kept.pop("model", None)
    return DenoiseReport.from_dict(kept)


def denoise_model(signal: BaseSignal) -> TrainedModel:
    """Return what denoised a signal, to be saved or applied to the next map.

    Parameters
    ----------
    signal
        What ``s.denoise_dae()`` returned, or a copy or a part of it, saved and loaded or not. The model is
        the array of bytes ``metadata.Specml.model``, the content of the file that its ``save(path)`` makes;
        ``del signal.metadata.Specml.model`` drops it.

    Raises
    ------
    OptionError
        The signal holds no model.
    ModelFileError
        The bytes are damaged, or of a newer version.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> clean = s.denoise_dae(context="spatial", show_progressbar=False)
    >>> again = s.denoise_dae(model=specml.denoise_model(clean), show_progressbar=False)
    >>> specml.denoise_report(again).trained_on
    'Simulated Fe-Cr-Ni map'
    """
    content = _kept(signal, "denoise_model").get("model")
    if content is None:
        raise OptionError(
            f"denoise_model({signal!r}): its metadata.Specml.model was deleted. Denoise again, or load the "
            "model from its file, specml.load_model(path)."
        )
    return TrainedModel.from_bytes(np.asarray(content, np.uint8).tobytes(), name="metadata.Specml.model")


def _kept(signal: BaseSignal, function: str) -> dict[str, Any]:
    """Return what `denoise_dae` wrote to the metadata."""
    metadata = getattr(signal, "metadata", None)
    found = metadata.get_item("Specml", None) if metadata is not None else None
    kept = {} if found is None else found.as_dictionary()
    if kept.get("method") != DenoiseReport.method:
        raise OptionError(f"{function}({signal!r}) needs a denoised signal: pass what s.denoise_dae() returned.")
    return kept
