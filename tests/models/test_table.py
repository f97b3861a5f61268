"""The one table writer: aligned in text, escaped in HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from hyperspy_specml.models import as_html, as_text, short

HEAD, ROWS = ("candidate", "score", ""), [("dense (2)", "4.75", "best"), ("pca", "-15.25", "")]
FACTS = [("noise", "poisson"), ("hold-out", "exact")]


def test_columns_of_text_are_aligned_and_lines_end_where_their_words_do():
    assert as_text(HEAD, ROWS, facts=FACTS, words=["All is well.", "Nothing more."]) == (
        "noise     poisson\n"
        "hold-out  exact\n"
        "\n"
        "candidate  score\n"
        "dense (2)  4.75    best\n"
        "pca        -15.25\n"
        "\n"
        "All is well.\n"
        "Nothing more."
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"rows": []}, ""),
        ({"rows": [], "words": ["Nothing."]}, "Nothing."),
        ({"rows": [], "facts": FACTS}, "noise     poisson\nhold-out  exact"),
        ({"rows": ROWS[1:]}, "candidate  score\npca        -15.25"),
    ],
)
def test_a_part_without_content_leaves_no_gap(given, text):
    assert as_text(HEAD, given.pop("rows"), **given) == text


class Page(HTMLParser):
    """Collect the cells of each row by kind, and the text outside of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.rows, self.outside = [], [], []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append((tag, ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            kind, text = self.rows[-1][-1]
            self.rows[-1][-1] = kind, text + data
        else:
            self.outside.append(data)


def read(html):
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def test_the_page_has_the_same_cells_and_sentences():
    page = read(as_html(HEAD, ROWS, facts=FACTS, words=["All is well.", "Nothing more."]))

    assert [[text for _, text in row] for row in page.rows] == [list(row) for row in (*FACTS, HEAD, *ROWS)]
    kinds = ["".join(kind[1] for kind, _ in row) for row in page.rows]
    assert kinds == ["hd", "hd", "hhh", "ddd", "ddd"]
    assert page.outside == ["All is well. Nothing more."]


def test_names_that_look_like_tags_are_shown_as_they_are_and_open_none():
    evil = "<script>alert('Fe & Cr')</script>"

    html = as_html((evil, "", ""), [(evil, "a & b", '"quoted"')], facts=[(evil, "<b>")], words=[f"{evil} &lt;"])

    assert "<script" not in html
    page = read(html)
    assert [[text for _, text in row] for row in page.rows] == [
        [evil, "<b>"],
        [evil, "", ""],
        [evil, "a & b", '"quoted"'],
    ]
    assert page.outside == [f"{evil} &lt;"]


def test_a_page_without_rows_has_no_empty_table():
    assert "<table" not in as_html(HEAD, [], words=["Nothing."])
    assert as_html(HEAD, []) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.123"),
        (1.5e-9, "1.5e-09"),
        (12345.678, "1.23e+04"),
        (3, "3"),
        ([1.0, 0.414], "[1.00, 0.41]"),
        ((), "[]"),
        ("poisson", "poisson"),
        (None, "None"),
    ],
)
def test_values_are_short(value, text):
    assert short(value) == text
