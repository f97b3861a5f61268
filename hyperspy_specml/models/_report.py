"""What a call found out about itself: one kind of report for all methods, in tables, metadata and model files."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hyperspy_specml.models._plain import from_plain, to_plain
from hyperspy_specml.models._table import Row, as_html, as_text, short
from hyperspy_specml.statistics import RankCurve

if TYPE_CHECKING:
    from typing import Self

    from matplotlib.figure import Figure

CLEAR = 2  # standard errors that make a difference worth a word
CURVE: Any = {"curve": True}  # of a field: too long for metadata


@dataclass(frozen=True)
class Candidate:
    """A model scored on counts that it has not seen.

    Attributes
    ----------
    name
        What it is, with its number of components.
    score
        Mean score of a spectrum on the test fold; smaller is better.
    difference, standard_error
        Mean and standard error of the paired difference to PCA, the last of the candidates.
    validation_score
        The same score on the validation fold, which decides between candidates.
    """

    name: str
    score: float
    difference: float
    standard_error: float
    validation_score: float


@dataclass(frozen=True)
class Attempt:
    """One training of several.

    Attributes
    ----------
    name
        Where it started.
    score
        Held-out score that decides between attempts, smaller is better; NaN where the training diverged.
    collapsed
        Why it was dropped; empty for a sound one.
    """

    name: str
    score: float
    collapsed: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Report:
    """The evidence behind a result. Prints as a table.

    Attributes
    ----------
    noise_model
        Name and parameters; for counts also ``fano``, the residuals' variance over their mean.
    used
        Numbers of pixels and channels in each state, e.g. ``{"pixels": {"used": 6397, "empty": 3}, ...}``.
    random_state
        Seed: the same one repeats the result.
    seconds
        Time of the stages.
    candidates, chosen
        What was compared on held-out counts, and the name of the one with the best score on the validation fold.
    hold_out, correlation
        "exact" (independent folds), "approximate" (equal in the first two moments), "pairs" (two recordings),
        "simulated" (library spectra) or "none" (the folds correlate); the correlation of the residuals of two
        halves of the data, 0 where the noise model holds.
    n_sampled
        Spectra that the folds were made of.
    smoothing
        Standard deviation, in channels, of the Gaussian along energy that the basis was made smooth with, because
        the validation fold liked it; 0 for principal vectors as they are.
    steps, step_scores, best_step, interrupted
        Training: score on the validation fold at steps, the step that was kept, and whether Ctrl-C or a cancel
        ended it.
    trained_on
        Title of the map or library that all but ``used`` and ``seconds`` belongs to, where a model was applied to
        another map; else None.
    resampled_from
        The energy axis of the training in words, where the model was brought to the channels of another one; else
        None.
    """

    method: ClassVar[str] = ""

    noise_model: dict[str, Any]
    used: dict[str, dict[str, int]]
    random_state: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    chosen: str = ""
    hold_out: str = "none"
    correlation: float = 0.0
    n_sampled: int = 0
    smoothing: float = 0.0
    steps: tuple[int, ...] = field(default=(), repr=False, metadata=CURVE)
    step_scores: tuple[float, ...] = field(default=(), repr=False, metadata=CURVE)
    best_step: int = 0
    interrupted: bool = False
    trained_on: str | None = None
    resampled_from: str | None = None

    def facts(self) -> list[Row]:
        """Return what stands above the table: names and values."""
        raise NotImplementedError

    def rows(self) -> tuple[Row, list[Row]]:
        """Return head and rows of the table."""
        raise NotImplementedError

    def words(self) -> list[str]:
        """Return the sentences below the table."""
        raise NotImplementedError

    def plot(self, figure: Figure | None = None) -> Figure:
        """Plot every candidate's difference to PCA on the test fold, with its paired standard error.

        Parameters
        ----------
        figure
            Empty figure or subfigure to plot into; by default a new one of pyplot.

        Returns
        -------
        the figure
        """
        from hyperspy_specml.models._report_figures import candidates_figure

        return candidates_figure(self, figure=figure)

    def __str__(self) -> str:
        """Return the table as text."""
        return as_text(*self.rows(), facts=self.facts(), words=self.words())

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return as_html(*self.rows(), facts=self.facts(), words=self.words())

    def __getitem__(self, name: str) -> Any:
        """Return a field by its name."""
        if name not in {item.name for item in fields(self)}:
            raise KeyError(name)
        return getattr(self, name)

    def to_dict(self) -> dict[str, Any]:
        """Return the report without its curves, as nested numbers, text and lists for ``metadata.Specml``."""
        shown = (item.name for item in fields(self) if not item.metadata.get("curve"))
        return {"method": self.method} | {name: to_plain(getattr(self, name)) for name in shown}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Return the report that `to_dict` made plain; curves are left out.

        Parameters
        ----------
        plain
            As in ``metadata.Specml``.

        Raises
        ------
        ValueError
            It is not such a report.
        """
        known = {item.name for item in fields(cls) if not item.metadata.get("curve")}
        found = to_plain({name: value for name, value in plain.items() if name in known})  # files hold NumPy's
        return from_plain(cls, found, names=REPORTED, where=cls.method)

    def applied(self, used: dict[str, Any], seconds: dict[str, float], title: str, **found: Any) -> Self:
        """Return the report of a model that was applied to another map than the one it was trained on.

        Parameters
        ----------
        used, seconds
            Of the other map.
        title
            Of the map it was trained on.
        **found
            Further fields of the other map.
        """
        return replace(self, used=self.used | used, seconds=seconds, trained_on=self.trained_on or title, **found)

    # What several reports say alike.

    def _noise(self) -> str:
        parameters = ", ".join(f"{k} {short(v)}" for k, v in self.noise_model.items() if k != "name")
        return f"{self.noise_model['name']}" + (f" ({parameters})" if parameters else "")

    def _hold_out(self) -> str:
        return f"{self.hold_out}; residuals of halves correlate by {self.correlation:.3f}"

    def _counts(self) -> list[Row]:
        used = sorted(self.used.items(), reverse=True)  # files forget the order
        falling = {kind: sorted(n.items(), key=lambda item: -item[1]) for kind, n in used}
        return [(kind, ", ".join(f"{n} {state}" for state, n in of)) for kind, of in falling.items()]

    def _training(self) -> str:
        stop = "interrupted: the best until then" if self.interrupted else "best held-out score"
        return f"step {self.best_step} of {self.steps[-1] if self.steps else self.best_step} ({stop})"

    def _times(self) -> Row:
        return ("time", ", ".join(f"{name} {t:.1f} s" for name, t in self.seconds.items()))


REPORTED: dict[str, Any] = {"np": np, "Candidate": Candidate, "Attempt": Attempt, "RankCurve": RankCurve}
"""What the annotations of reports name, for reading them back from files."""
