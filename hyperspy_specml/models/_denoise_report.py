"""What ``s.denoise_dae()`` found out: kept in the metadata of the denoised signal, read back from there."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    import numpy as np
    from hyperspy.signal import BaseSignal
    from matplotlib.figure import Figure

    from hyperspy_specml.decompose import Candidate
    from hyperspy_specml.denoise import Denoising

_METHOD = "denoise_dae"
_COLUMNS = ("name", "score", "difference", "standard_error", "validation_score")
ERASED = ("energy", "position", "pixels", "z", "excess")  # columns
_NAMED = 3  # erased features in a sentence


@dataclass(frozen=True)
class DenoiseReport:
    """The evidence behind a denoised signal: `denoise_report` reads it from the signal.

    Attributes
    ----------
    chosen
        Name of the candidate with the best score on the validation fold: what was applied.
    candidates
        Name, score, difference to plain PCA and its paired standard error on the test fold (15 % of the
        counts, which chose nothing), and the score on the validation fold, which decided. Scores are squared
        errors in units of the noise, summed over the channels of a spectrum; noise alone makes about 1 for
        each. They belong to models fitted on 70 % of the counts; the applied one knows all.
    context
        What candidates were allowed to see.
    noise_reduction
        Standard deviation of the noise in the data over that in the denoised data, over all channels.
        Denoised maps look as much better as this; how much better they are, `error` says.
    error, error_standard_error, error_variance
        Squared error that is left, in the unit of the scores, estimated without the truth: from the product
        of the residuals of the validation and the test fold. `error_variance` of it is noise; the rest is
        bias, which repeats itself and looks like signal.
    signal_variance
        Variance of the denoised spectra over the map, in the same unit.
    noise_model, hold_out, correlation
        See `Report`; hold_out is also "pairs" (real repeats) or "simulated" (library spectra). With "none" no
        score is valid, and plain PCA is returned.
    erased
        What was taken away that noise cannot explain, strongest first, as columns: ``energy`` where it is
        strongest, ``position`` of its middle as text, number of ``pixels``, ``z`` in standard deviations and
        ``excess``, the sum of what was taken (negative: added). A map without any such
        thing shows one with a chance of 1 %.
    erased_pixels
        Flat indices of the pixels of these regions, one region after the other.
    protected
        Whether they were put back.
    shape
        Of the map, in array order.
    used
        Numbers of pixels and channels in each state.
    n_sampled, n_tiles
        Spectra that everything was learnt from, and in how many boxes of the map; one box is the whole map.
    n_components
        Score maps P that the denoised spectra are made of.
    smoothing
        Channels over which the axes of the score maps were smoothed, because the validation fold liked it.
    best_step, n_steps, interrupted
        Training of the chosen network; 0 steps for filters.
    random_state
        Seed: the same one repeats the result.
    seconds
        Time of the stages.
    trained_on, dose
        Title of the map or library that all but ``erased``, ``shape``, ``used`` and ``seconds`` belongs
        to, where a model was applied to another map, and the dose of this map over that of the training (over
        one count in a spectrum for libraries); else "" and 1.
    resampled_from
        The energy axis of the training in words, where the model was brought to the channels of another one.
    corruption
        How inputs for the networks were made from counts.
    """

    chosen: str
    candidates: tuple[Candidate, ...]
    context: str
    noise_reduction: float
    error: float
    error_standard_error: float
    error_variance: float
    signal_variance: float
    noise_model: dict[str, Any]
    hold_out: str
    correlation: float
    erased: dict[str, list[Any]]
    erased_pixels: list[int] = field(repr=False)
    protected: bool
    shape: tuple[int, ...]
    used: dict[str, dict[str, int]]
    n_sampled: int
    n_tiles: int
    n_components: int
    smoothing: float
    best_step: int
    n_steps: int
    interrupted: bool
    random_state: int
    seconds: dict[str, float] = field(compare=False)
    trained_on: str = ""
    dose: float = 1.0
    resampled_from: str = ""
    corruption: str = "split"

    @classmethod
    def of(cls, found: Denoising, *, context: str) -> DenoiseReport:
        """Collect the report of a training; nothing of `erased` is known yet.

        Parameters
        ----------
        found
            The denoised map.
        context
            As asked for.
        """
        prepared, quality, history = found.prepared, found.quality, found.history
        return cls(
            chosen=found.chosen,
            candidates=found.candidates,
            context=context,
            noise_reduction=quality.noise_reduction,
            error=quality.error,
            error_standard_error=quality.standard_error,
            error_variance=quality.variance,
            signal_variance=quality.signal,
            noise_model=prepared.estimate.model.to_dict() | {"fano": prepared.estimate.fano},
            hold_out=prepared.hold_out,
            correlation=prepared.correlation,
            erased={name: [] for name in ERASED},
            erased_pixels=[],
            protected=False,
            shape=found.shape,
            used=prepared.summary.counts(),
            n_sampled=len(prepared.summary.sample_pixels),
            n_tiles=found.n_tiles,
            n_components=found.denoiser.basis.n_vectors,
            smoothing=found.width,
            best_step=history.best_step if history else 0,
            n_steps=history.steps[-1] if history else 0,
            interrupted=bool(history and history.interrupted),
            random_state=prepared.seed,
            seconds=found.seconds,
            corruption=found.corruption,
        )

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> DenoiseReport:
        """Return the report that `to_dict` made plain.

        Parameters
        ----------
        plain
            As in ``metadata.Specml``.
        """
        from hyperspy_specml.decompose import Candidate

        known = {name.name for name in dataclasses.fields(cls)}
        facts = {name: value for name, value in plain.items() if name in known}
        columns = [facts["candidates"][column] for column in _COLUMNS]
        facts["shape"] = tuple(facts["shape"])
        return cls(**facts | {"candidates": tuple(Candidate(*row) for row in zip(*columns, strict=True))})

    def to_dict(self) -> dict[str, Any]:
        """Return the report as nested numbers, text and lists for ``metadata.Specml``."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        columns = {column: [getattr(c, column) for c in self.candidates] for column in _COLUMNS}
        return {"method": _METHOD} | plain | {"candidates": columns}

    def __str__(self) -> str:
        """Return the table as text."""
        from hyperspy_specml.models import _denoise_table

        return _denoise_table.as_text(self)

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        from hyperspy_specml.models import _denoise_table

        return _denoise_table.as_html(self)

    def verdict(self) -> str:
        """Say in one sentence how the denoised data compare with PCA."""
        chosen = next(c for c in self.candidates if c.name == self.chosen)
        if self.hold_out == "none":
            return (
                f"No valid hold-out: residuals of halves correlate by {self.correlation:.2f}, so scores "
                "favour what keeps the noise. This is plain PCA."
            )
        if chosen is self.candidates[-1]:
            return f"Nothing predicts held-out counts better than plain {chosen.name}."
        plain = self.candidates[-1].name
        size = -chosen.difference / chosen.standard_error if chosen.difference else 0.0
        return f"{chosen.name} is better than plain {plain}, by {size:.1f} standard errors."

    def erased_in_words(self) -> str:
        """Say what was erased, and where."""
        n = len(self.erased["z"])
        if not n:
            return "Nothing was erased that noise cannot explain."
        columns = (self.erased[name] for name in ("energy", "position", "pixels", "z"))
        named = [
            f"{energy} at {position} ({pixels} pixels, {z:+.1f} standard deviations)"
            for energy, position, pixels, z in list(zip(*columns, strict=True))[:_NAMED]
        ]
        what = "features were put back" if self.protected else "features were erased"
        rest = f" and {n - _NAMED} more" if n > _NAMED else ""
        return f"{n} {what} that noise cannot explain: {'; '.join(named)}{rest}."

    def erased_map(self) -> np.ndarray:
        """Return a map in array order: 0, or the number of the erased region that the pixel belongs to.

        The strongest region is number 1.
        """
        import numpy as np

        regions = np.zeros(math.prod(self.shape), int)
        regions[self.erased_pixels] = np.repeat(np.arange(len(self.erased["z"])) + 1, self.erased["pixels"])
        return regions.reshape(self.shape)

    def plot(self) -> Figure:
        """Plot every candidate's difference to plain PCA on the test fold, with its paired standard error.

        Returns
        -------
        matplotlib figure
        """
        from hyperspy_specml.results import _figures

        return _figures.candidates_figure(self)


def denoise_report(signal: BaseSignal) -> DenoiseReport:
    """Return the report of a denoised signal, also after it was saved and loaded.

    Parameters
    ----------
    signal
        What ``s.denoise_dae()`` returned.

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
    metadata = getattr(signal, "metadata", None)
    stamped = metadata.get_item("Specml", None) if metadata is not None else None
    if stamped is None or stamped.get_item("method", None) != _METHOD:
        raise OptionError(f"{signal!r} has no report of a denoising: pass what s.denoise_dae() returned.")
    return DenoiseReport.from_dict(stamped.as_dictionary())
