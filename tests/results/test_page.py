"""What results show in notebooks: one block that survives export, with its pictures inside; the same as text."""

from __future__ import annotations

import base64
import dataclasses
import io
import re

import matplotlib.image
import numpy as np
import pytest

from hyperspy_specml.models import Candidate, DenoiseReport
from hyperspy_specml.results._page import small_maps


def pictures(page):
    sources = re.findall(r"<img [^>]*src='([^']*)'", page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    return [matplotlib.image.imread(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in sources]


@pytest.mark.parametrize("n_navigation", [1, 2, 3])
def test_a_decomposition_shows_its_maps_and_its_verdict(make_map, n_navigation):
    dec = make_map(n_navigation).decomposition_ae(2, architecture="pca", noise="poisson", show_progressbar=False)

    page = dec._repr_html_()

    (picture,) = pictures(page)
    assert np.ptp(picture[..., :3]) > 0.5
    assert dec.report.verdict() in page
    assert dec.report.verdict() in repr(dec)


def test_of_many_maps_the_first_six_stand_in_a_row(make_map):
    axes = make_map().axes_manager.navigation_axes
    widths = [pictures(small_maps({str(k): np.eye(7, 5) for k in range(n)}, axes))[0].shape[1] for n in (1, 6, 9)]

    assert widths[1] == widths[2] == pytest.approx(6 * widths[0], abs=6)


def test_the_outlined_pixels_of_an_anomaly_map_are_seen(make_map):
    axes = make_map().axes_manager.navigation_axes
    plain, outlined = (pictures(small_maps({"": np.zeros((7, 5))}, axes, m))[0] for m in (None, np.eye(7, 5) > 0))

    assert (plain != outlined).any()


def denoise_report(n):
    names = [f"filter {k}" for k in range(n - 1)] + ["pca (2)"]
    order = np.random.default_rng(0).permutation(n)  # the last of all, PCA, is no exception
    candidates = tuple(Candidate(name, 5.0, 0.0, 0.1, float(k)) for name, k in zip(names, order, strict=True))
    facts = {"noise_reduction": 2.0, "error": 1.0, "error_standard_error": 0.1, "error_variance": 0.5}
    facts |= {"signal_variance": 3.0, "n_components": 2, "shape": (7, 5), "context": "auto"}
    return DenoiseReport(
        noise_model={"name": "poisson"}, used={}, candidates=candidates, chosen=names[0], hold_out="exact", **facts
    )


def test_of_many_candidates_the_best_five_the_chosen_and_pca_are_shown_and_the_others_unfold():
    report = denoise_report(20)
    best = sorted(report.candidates, key=lambda one: one.validation_score)[:5]
    shown = {"filter 0", "pca (2)", *(one.name for one in best)}

    text, page = str(report), report._repr_html_()

    table = text.split("candidate ")[1].split("\n\n")[0]
    assert set(re.findall(r"^(filter \d+|pca \(2\))", table, re.MULTILINE)) == shown
    assert f"{20 - len(shown)} more candidates: report.candidates." in text
    before, after = page.split("<details>")
    assert set(re.findall(r"<td>(filter \d+|pca \(2\))<", before)) == shown
    assert set(re.findall(r"<td>(filter \d+|pca \(2\))<", after)) == {one.name for one in report.candidates}


def test_few_candidates_are_all_shown():
    report = denoise_report(8)

    assert "<details>" not in report._repr_html_()
    assert all(one.name in str(report) for one in report.candidates)


def test_an_error_that_is_not_seen_has_a_limit_and_no_sign():
    report = dataclasses.replace(denoise_report(8), error=-0.05, error_standard_error=0.5)

    assert "error left   below 0.95 in units of the noise; the signal varies by 3" in str(report)
    assert "1 ± 0.1 in units of the noise, 50% of it bias" in str(denoise_report(8))
