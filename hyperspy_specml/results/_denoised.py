"""What a denoised signal keeps of its denoising: report and model, in its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.models import DenoiseReport, TrainedModel
from hyperspy_specml.signals import provenance

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal


def denoise_report(signal: BaseSignal) -> DenoiseReport:
    """Return the report of a denoised signal, also of a copy or a part of it, saved and loaded or not.

    Parameters
    ----------
    signal
        What ``s.denoise_dae()`` returned. The report is the entry ``report`` of ``metadata.Specml``.

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
    return DenoiseReport.from_dict(_kept(signal, "denoise_report"))


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
    _kept(signal, "denoise_model")
    content = signal.metadata.get_item("Specml.model", None)
    if content is None:
        raise OptionError(
            f"denoise_model({signal!r}): its metadata.Specml.model was deleted. Denoise again, or load the "
            "model from its file, specml.load_model(path)."
        )
    return TrainedModel.from_bytes(np.asarray(content, np.uint8).tobytes(), name="metadata.Specml.model")


def _kept(signal: BaseSignal, function: str) -> dict[str, Any]:
    """Return what `denoise_dae` wrote to the metadata."""
    kept = provenance(signal)
    if kept.get("method") != DenoiseReport.method:
        raise OptionError(f"{function}({signal!r}) needs a denoised signal: pass what s.denoise_dae() returned.")
    return kept
