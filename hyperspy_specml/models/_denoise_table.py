"""The report of a denoising as a table, in text and in HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyperspy_specml.models._denoise_report import DenoiseReport

_HEAD = ("candidate", "held-out error", "difference to PCA", "")
_STAGES = ("study", "training", "scoring", "application", "check")  # files forget the order
_SIMULATED = "simulated"  # hold-out of libraries


def as_text(report: DenoiseReport) -> str:
    """Return the table as text."""
    facts, rows = _facts(report), [_HEAD, *_rows(report)]
    width = max(len(name) for name, _ in facts)
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    lines += [
        "",
        *("  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)).rstrip() for r in rows),
    ]
    return "\n".join([*lines, "", report.verdict(), report.erased_in_words()])


def as_html(report: DenoiseReport) -> str:
    """Return the table for notebooks."""
    facts = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in _facts(report)
    )
    rows = "".join(
        "<tr>" + "".join(f"<{cell}>{html.escape(text)}</{cell}>" for text in row) + "</tr>"
        for cell, row in [("th", _HEAD), *(("td", row) for row in _rows(report))]
    )
    words = html.escape(f"{report.verdict()} {report.erased_in_words()}")
    return f"<table>{facts}</table><table>{rows}</table><p>{words}</p>"


def _facts(report: DenoiseReport) -> list[tuple[str, str]]:
    name = report.noise_model["name"]
    bias = max(0.0, 1 - report.error_variance / report.error) if report.error > 0 else 0.0
    facts = [
        ("chosen", f"{report.chosen}, of the candidates with context={report.context!r}"),
        ("noise", f"{report.noise_reduction:.3g} times less; {name} noise"),
        (
            "error left",
            f"{report.error:.3g} ± {report.error_standard_error:.2g} in units of the noise, {bias:.0%} of "
            f"it bias; the signal varies by {report.signal_variance:.3g}",
        ),
        ("hold-out", f"{report.hold_out}; residuals of halves correlate by {report.correlation:.3f}"),
        *((kind, _falling(report.used[kind])) for kind in ("pixels", "channels")),
    ]
    where = "" if report.n_tiles == 1 else f" in {report.n_tiles} boxes of the map"
    if report.trained_on:
        where += f" of {report.trained_on!r}, to which the scores belong"
        counts = "counts in a spectrum" if report.hold_out == _SIMULATED else "times that of the training"
        facts.append(("dose", f"{report.dose:.4g} {counts}"))
    facts.append(("learnt from", f"{report.n_sampled} spectra{where}"))
    if report.resampled_from:
        facts.append(("resampled", f"from {report.resampled_from}"))
    if report.smoothing:
        facts.append(("axes", f"smooth over {report.smoothing:g} channels, by held-out score"))
    if report.n_steps:
        stop = "interrupted: the best until then" if report.interrupted else "best held-out score"
        how = "" if report.corruption == "split" else f", inputs by {report.corruption}"
        facts.append(("training", f"step {report.best_step} of {report.n_steps} ({stop}){how}"))
    times = ", ".join(
        f"{stage} {report.seconds[stage]:.1f} s" for stage in _STAGES if stage in report.seconds
    )
    return [*facts, ("time", times)]


def _rows(report: DenoiseReport) -> list[tuple[str, ...]]:
    ordered = sorted(report.candidates, key=lambda candidate: candidate.validation_score)
    return [
        (
            c.name, f"{c.score:.4f}", f"{c.difference:+.4f} ± {c.standard_error:.4f}",
            "chosen" if c.name == report.chosen else "",
        )
        for c in ordered
    ]  # fmt: skip


def _falling(numbers: dict[str, int]) -> str:
    return ", ".join(f"{n} {state}" for state, n in sorted(numbers.items(), key=lambda item: -item[1]))
