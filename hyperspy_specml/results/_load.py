"""Read results from files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperspy_specml.exceptions import ModelFileError, SpectraRequiredError
from hyperspy_specml.models import AnomalyReport, DecompositionReport, PhaseReport
from hyperspy_specml.results._anomaly import AnomalyResult
from hyperspy_specml.results._decomposition import DecompositionResult
from hyperspy_specml.results._files import read_result
from hyperspy_specml.results._phases import PhaseResult
from hyperspy_specml.signals import Source, axis_spec, energy_axis, spectra_of

if TYPE_CHECKING:
    import os

    from hyperspy.signal import BaseSignal


def load_result(
    path: str | os.PathLike[str], *, signal: BaseSignal | None = None
) -> DecompositionResult | AnomalyResult | PhaseResult:
    """Load a result that ``dec.save(path)``, ``found.save(path)`` or ``phases.save(path)`` saved; no code of it is run.

    Parameters
    ----------
    path
        Where it is.
    signal
        The one that was decomposed, for ``dec.residual``; everything else works without it.

    Returns
    -------
    The result, as it was; its maps are in memory, and its reconstruction is lazy if the signal was lazy.

    Raises
    ------
    ModelFileError
        The file holds no result, or it is damaged.
    FileNotFoundError
        There is no such file.
    SpectraRequiredError
        The signal is not of the shape and energy axis that was decomposed.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> dec = s.decomposition_ae(3, architecture="pca", show_progressbar=False)
    >>> path = dec.save("steel", overwrite=True)
    >>> specml.load_result(path).scores
    <Signal2D, title: Scores of Simulated Fe-Cr-Ni map, dimensions: (3|16, 16)>
    """
    first, model, parts = read_result(path)
    if isinstance(model.report, AnomalyReport):
        return AnomalyResult.restored(model, first, parts)
    if isinstance(model.report, PhaseReport):
        return PhaseResult.restored(model, first, parts)
    if not isinstance(model.report, DecompositionReport):
        raise ModelFileError(f"load_result({str(path)!r}): the result is one of {model.report.method}.")
    source = Source.rebuilt(parts["components"], first, title=parts.pop("title"), lazy=bool(parts.pop("lazy")))
    if signal is not None:
        known = Source.of(signal, spectra_of(signal, method="load_result"))
        here, there = (
            (one.spectra.array.shape, axis_spec(energy_axis(one.template))["units"]) for one in (known, source)
        )
        if here != there:
            raise SpectraRequiredError(
                f"load_result({str(path)!r}, signal={signal!r}): the result is of spectra of shape {there[0]} in "
                f"{there[1]}, the signal holds {here[0]} in {here[1]}. Pass the signal that was decomposed."
            )
        source = known
    return DecompositionResult.restored(source, model, first, parts)
