"""What a call found out about itself: one kind of report for all methods, in tables, metadata and model files."""

from __future__ import annotations

import html
import io
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from hyperspy_specml.models._file import from_plain, to_plain
from hyperspy_specml.statistics import falls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from matplotlib.figure import Figure
    from pandas import DataFrame

Row = tuple[str, ...]
CLEAR = 2  # standard errors that make a difference worth a word
# Candidates that all stand in a table, and the best ones of more that do.
_LONG, _BEST = 8, 5
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


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
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
    alignment, description
        Of a model that was aligned with another map: shift and dispersion that were found, with errors, and how well
        it describes held-out counts of that map beside a PCA fitted on it, in words; else None.
    """

    method: ClassVar[str]
    score_name: ClassVar[str] = "held-out deviance"
    mark: ClassVar[str] = "chosen"

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
    alignment: str | None = None
    description: str | None = None

    def facts(self) -> list[Row]:
        """Return what stands above the table: names and values; those without a value are left out."""
        raise NotImplementedError

    def rows(self) -> tuple[Row, list[Row]]:
        """Return head and rows of the table."""
        rows: list[Row] = []
        for one in self.candidates:
            mark = self.mark if one.name == self.chosen else ""
            rows.append((one.name, f"{one.score:.4f}", f"{one.difference:+.4f} ± {one.standard_error:.4f}", mark))
        return ("candidate", self.score_name, "difference to PCA", ""), rows

    def words(self) -> list[str]:
        """Return the sentences below the table."""
        raise NotImplementedError

    def plot(self, figure: Figure | None = None) -> Figure:
        """Plot every candidate's difference to PCA on the test fold and its paired standard error, best at the top.

        Parameters
        ----------
        figure
            Empty figure or subfigure to plot into; by default a new one of pyplot.

        Returns
        -------
        the figure
        """
        figure = figure or new_figure(6.4, 0.24 * len(self.candidates) + 1.2)
        axes = figure.subplots()
        ordered = sorted(self.candidates, key=lambda candidate: -candidate.validation_score)
        for place, one in enumerate(ordered):
            colour = "C1" if one.name == self.chosen else "C0"
            axes.errorbar(one.difference, place, xerr=one.standard_error, fmt="o", markersize=4, color=colour)
        axes.axvline(0, color="0.7", linewidth=0.8)
        axes.set_yticks(range(len(ordered)), [candidate.name for candidate in ordered], fontsize="small")
        axes.locator_params(axis="x", nbins=6)  # of large numbers more would overlap
        axes.set(xlabel="held-out score, difference to plain PCA", title="".join(self.words()[:1]))
        axes.title.set(fontsize="small", wrap=True)
        return figure

    def to_dataframe(self) -> DataFrame:
        """Return the candidates, one a row: name, scores, difference to PCA, and which was chosen.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        rows = [to_plain(one) | {"chosen": one.name == self.chosen} for one in self.candidates]
        return data_frame(rows, "report.to_dataframe()")

    def __repr__(self) -> str:
        """Return the table, as ``str``."""
        return str(self)

    def __str__(self) -> str:
        """Return the table as text; of many candidates the best ones, the chosen one and PCA."""
        head, rows = self.rows()
        few = self._few(rows)
        more = [f"{len(rows) - len(few)} more candidates: report.candidates."] if few != rows else []
        return as_text(head, few, facts=self._known(), words=[*more, *self.words()])

    def _repr_html_(self) -> str:
        """Return the same for notebooks; the other candidates unfold."""
        head, rows = self.rows()
        few = self._few(rows)
        page = as_html(head, few, facts=self._known(), words=self.words())
        if few == rows:
            return page
        return f"{page}<details><summary>all {len(rows)} candidates</summary>{as_html(head, rows)}</details>"

    def _few(self, rows: list[Row]) -> list[Row]:
        """Return the rows of the best candidates, of the chosen one and of PCA; all rows where they are few."""
        if len(rows) <= _LONG:
            return rows
        best = sorted(self.candidates, key=lambda one: one.validation_score)[:_BEST]
        shown = {self.chosen, self.candidates[-1].name, *(one.name for one in best)}
        return [row for row in rows if row[0] in shown]

    def __getitem__(self, name: str) -> Any:
        """Return a field by its name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}[name]

    def to_dict(self) -> dict[str, Any]:
        """Return the report without its curves, as nested numbers, text and lists for ``metadata.Specml``."""
        return {"method": self.method} | to_plain(self, curves=False)

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
        found = {item.name: to_plain(plain[item.name]) for item in fields(cls) if item.name in plain}
        return from_plain(cls, found, cls.method)

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
    def _beside_pca(self, verb: str = "is") -> tuple[float, str]:
        """Return by how many standard errors the first candidate is better than PCA, and that in words."""
        model = self.candidates[0]
        size = -model.difference / model.standard_error if model.difference else 0.0
        if size > CLEAR:
            return size, f"{model.name} {verb} better than PCA of the same size, by {size:.1f} standard errors."
        return size, f"{model.name} and PCA of the same size cannot be told apart ({abs(size):.1f} standard errors)."

    def _no_hold_out(self) -> str:
        return f"No valid hold-out: residuals of halves correlate by {self.correlation:.2f}, so scores favour "

    def _known(self) -> list[Row]:
        return [fact for fact in self.facts() if fact[1]]

    def _noise(self) -> str:
        parameters = ", ".join(f"{k} {short(v)}" for k, v in self.noise_model.items() if k != "name")
        return f"{self.noise_model['name']}" + (f" ({parameters})" if parameters else "")

    def _origin(self, learnt: str, what: str) -> list[Row]:
        of_another = "" if self.trained_on is None else f"{self.trained_on}{what}"
        resampled = f"the model, not the counts; {learnt.split()[0]} on {self.resampled_from}"
        return [
            (learnt, of_another),
            ("resampled", resampled if self.resampled_from else ""),
            ("aligned", self.alignment or ""),
            ("deviance here", self.description or ""),
        ]

    def _hold_out(self) -> str:
        return f"{self.hold_out}; residuals of halves correlate by {self.correlation:.3f}"

    def _counts(self) -> list[Row]:
        falling = {kind: sorted(n.items(), key=lambda item: -item[1]) for kind, n in self.used.items()}
        kinds = sorted(falling, reverse=True)  # files forget the order
        return [(kind, ", ".join(f"{n} {state}" for state, n in falling[kind])) for kind in kinds]

    def _learning(self) -> list[Row]:
        return [
            ("basis", f"smooth over {self.smoothing:g} channels, by held-out score" if self.smoothing else ""),
            ("training", self._training()),
            self._times(),
        ]

    def _times(self) -> Row:
        return ("time", ", ".join(f"{name} {t:.1f} s" for name, t in self.seconds.items()))

    def _training(self) -> str:
        return f"step {self.best_step} of {self.steps[-1]} ({self._stop(self.steps[-1])})" if self.steps else ""

    def _stop(self, n_steps: int) -> str:
        """Return why a training of so many steps ended."""
        if self.interrupted:
            return "interrupted: the best until then"
        if falls(self.step_scores):
            return f"still getting better: more may help, config=specml.TrainConfig(max_steps={2 * n_steps})"
        return "best held-out score"


def data_frame(rows: Sequence[Mapping[str, Any]], call: str) -> DataFrame:
    """Return a table of pandas, which is optional.

    Parameters
    ----------
    rows
        By the names of the columns.
    call
        Who asks, for the message.

    Raises
    ------
    ImportError
        pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f"{call} needs pandas, which is not installed: pip install pandas.") from error
    return pandas.DataFrame(rows)


def new_figure(width: float, height: float) -> Figure:
    """Return a new figure of pyplot, of so many inches; notebooks show it once, though it is a cell's value too."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    class ShownOnce(Figure):
        def _ipython_display_(self) -> None:
            """Leave it to pyplot, which shows the figures that a cell made; one of an earlier cell is shown here."""
            if not plt.fignum_exists(self.number):
                from IPython.display import Image, display

                content = io.BytesIO()
                self.savefig(content, format="png")
                display(Image(content.getvalue()))

    return plt.figure(figsize=(width, height), layout="constrained", FigureClass=ShownOnce)


def as_text(head: Row, rows: Sequence[Row], *, facts: Sequence[Row] = (), words: Sequence[str] = ()) -> str:
    """Return facts, a table with a head, and sentences, as text.

    Parameters
    ----------
    head, rows
        Of the table; without rows there is none.
    facts
        Names and values, above it.
    words
        Sentences below it.
    """
    blocks = [_aligned(facts), _aligned([head, *rows] if rows else []), "\n".join(words)]
    return "\n\n".join(block for block in blocks if block)


def as_html(head: Row, rows: Sequence[Row], *, facts: Sequence[Row] = (), words: Sequence[str] = ()) -> str:
    """Return the same as `as_text`, as HTML."""
    named = [_html_row(fact, "th style='text-align:left'", "td") for fact in facts]
    shown = [_html_row(head, "th", "th"), *(_html_row(row, "td", "td") for row in rows)] if rows else []
    tables = [f"<table>{''.join(lines)}</table>" for lines in (named, shown) if lines]
    return "".join(tables) + (f"<p>{html.escape(' '.join(words))}</p>" if words else "")


def short(value: object) -> str:
    """Return a number, a list of numbers or anything else as short text."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(f"{v:.2f}" for v in value) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _aligned(rows: Sequence[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _html_row(row: Row, first: str, others: str) -> str:
    cells = [(first, row[0]), *((others, text) for text in row[1:])]
    return "<tr>" + "".join(f"<{c}>{html.escape(t)}</{c.split()[0]}>" for c, t in cells) + "</tr>"
