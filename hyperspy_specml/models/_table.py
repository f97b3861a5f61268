"""Facts and rows as a table: in text for terminals, in HTML for notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[str, ...]


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
    left = " style='text-align:left'"
    parts = [_html_table([_html_row(fact, f"th{left}", "td") for fact in facts])]
    parts.append(_html_table([_html_row(head, "th", "th"), *(_html_row(r, "td", "td") for r in rows)] if rows else []))
    return "".join(parts) + (f"<p>{html.escape(' '.join(words))}</p>" if words else "")


def short(value: object) -> str:
    """Return a number, a list of numbers or anything else as short text."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(f"{v:.2f}" for v in value) + "]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _aligned(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _html_table(rows: Sequence[str]) -> str:
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _html_row(row: Row, first: str, others: str) -> str:
    cells = [(first, row[0]), *((others, text) for text in row[1:])]
    return "<tr>" + "".join(f"<{c}>{html.escape(t)}</{c.split()[0]}>" for c, t in cells) + "</tr>"
