"""The variational autoencoder as users see it: errors of the scores, intervals, new maps."""

from __future__ import annotations

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import Cancelled, DataRequiredError, OptionError


@pytest.fixture
def dec(fitted):
    return fitted("vae")[1]


def axes_of(signal):
    return [
        (axis.name, axis.units, axis.scale, axis.offset, axis.size, axis.navigate) for axis in signal.axes_manager._axes
    ]


def test_the_report_has_the_dense_autoencoder_and_pca_beside_it(dec):
    names = [candidate.name for candidate in dec.report.candidates]

    assert names[0] == "vae (3)"
    assert {"dense (3)", "pca (3)"} <= {*names}
    assert [attempt.name for attempt in dec.report.attempts] == ["dense, seed 0", "vae"]


def test_errors_of_the_scores_are_maps_like_the_scores(dec, fitted):
    errors = dec.scores_error

    assert type(errors) is type(dec.scores)
    assert axes_of(errors) == axes_of(dec.scores)
    assert errors.metadata.General.title == "Errors of the scores of steel"
    assert (errors.data > 0).all()
    for i in range(3):
        np.testing.assert_allclose(errors.data[i] ** 2, dec.outputs[f"covariance {i},{i}"].data, rtol=1e-5)
    assert (errors.data < 3 * dec.scores.data.std(axis=(1, 2))[:, None, None]).all()
    assert fitted("dense")[1].scores_error is None


def test_spectra_keep_their_totals(dec, fitted):
    counts = fitted("vae")[0].data

    np.testing.assert_allclose(dec.reconstruction.data.sum(axis=-1), counts.sum(axis=-1), rtol=2e-3)
    np.testing.assert_allclose(dec.intensity.data, counts.sum(axis=-1), rtol=2e-3)


def test_errors_are_the_same_lazy_or_not_and_say_what_was_not_used(make_map, make_counts, decompose):
    counts = make_counts((9, 11))
    counts[2, 3] = 0  # a spectrum of zeros is data, where the data are counts
    mask = np.zeros(counts.shape[:-1], bool)
    mask[4, 5] = True
    eager = make_map(data=counts)

    one, other = (decompose(s, 2, architecture="vae", navigation_mask=mask) for s in (eager, eager.as_lazy()))

    np.testing.assert_array_equal(one.scores_error.data, other.scores_error.data)
    assert not other.scores_error._lazy
    assert np.isnan(one.scores_error.data[:, 4, 5]).all()
    assert np.isfinite(one.scores_error.data).sum() == 2 * (mask.size - 1)
    low, high = one.interval((702, 706), replicas=0)
    assert np.isnan(low.data[4, 5])
    assert low.data[2, 3] == high.data[2, 3] == 0


def test_values_below_zero_are_normal_and_have_no_intensity(make_map, make_counts, decompose):
    values = make_counts((9, 11)) - 30.0

    dec = decompose(make_map(data=values.astype(np.float32)), 2, architecture="vae", noise="auto")

    assert dec.report.noise_model["name"] != "poisson"
    assert dec.intensity is None
    assert (dec.scores_error.data > 0).all()
    assert dec.residual.data.std() < 1.05 * dec.baseline.residual.data.std()
    assert dec.generate((3,)).data.dtype == np.float32
    with pytest.raises(OptionError, match=r"intensity=5\) is for models of counts"):
        dec.generate((3,), intensity=5)


def test_intervals_lie_around_the_reconstruction(dec):
    low, high = dec.interval((702, 706), replicas=0)
    window = dec.reconstruction.isig[702.0:706.3].data.sum(axis=-1)

    assert axes_of(low) == axes_of(dec.intensity)
    np.testing.assert_allclose(0.5 * (low.data + high.data), window, rtol=1e-4)
    assert specml.provenance(low)["inflation"] == 1
    narrow = dec.interval((702, 706), level=0.5, replicas=0)
    np.testing.assert_allclose(
        (high.data - low.data) / (narrow.high.data - narrow.low.data), 1.64485 / 0.67449, rtol=1e-3
    )
    whole = dec.interval((0, 1e4), replicas=0)  # a number of counts
    np.testing.assert_allclose(whole.high.data - whole.low.data, 2 * 1.64485 * np.sqrt(dec.intensity.data), rtol=2e-2)


def test_intervals_of_scores_are_those_of_the_posterior(dec):
    low, high = dec.interval(1, replicas=0)

    np.testing.assert_allclose(high.data - low.data, 2 * 1.64485 * dec.scores_error.data[1], rtol=1e-4)


def test_replicas_widen_intervals_and_are_made_once(dec):
    first = dec.interval(((702, 706), (709, 714)))
    again = dec.interval(((702, 706), (709, 714)))
    bare = dec.interval(((702, 706), (709, 714)), replicas=0)

    np.testing.assert_array_equal(first.low.data, again.low.data)
    factor = specml.provenance(first.low)["inflation"]
    assert factor >= 1
    widths = [one.high.data - one.low.data for one in (first, bare)]
    np.testing.assert_allclose(widths[0], factor * widths[1], rtol=1e-3)
    assert specml.provenance(dec.interval(0).high)["inflation"] >= 1


def test_a_saved_result_has_the_same_errors_and_intervals(dec, tmp_path):
    loaded = specml.load_result(dec.save(tmp_path / "vae"))

    np.testing.assert_array_equal(loaded.scores_error.data, dec.scores_error.data)
    for one, other in zip(loaded.interval((702, 706), replicas=0), dec.interval((702, 706), replicas=0), strict=True):
        np.testing.assert_array_equal(one.data, other.data)


def test_pca_knows_its_noise_and_dense_by_its_variational_autoencoder(fitted, dec, tmp_path):
    pca, dense = dec.baseline.interval((702, 706), replicas=0), fitted("dense")[1]
    window = dec.baseline.reconstruction.isig[702.0:706.3].data.sum(axis=-1)
    np.testing.assert_allclose(0.5 * (pca.low.data + pca.high.data), window, rtol=1e-4)

    low, high = dense.interval((702, 706), replicas=0)
    assert (high.data > low.data).all()
    loaded = specml.load_result(dense.save(tmp_path / "dense"))
    with pytest.raises(DataRequiredError, match=r"specml\.load_result\(path, signal=s\)"):
        loaded.interval((702, 706))


def test_a_dense_model_that_moves_spectra_has_intervals_of_its_own(fitted, decompose):
    dec = decompose(fitted("dense")[0], 3, options=specml.DenseOptions(n_hidden=16, augment=1.5))

    low, high = dec.interval((702, 706), replicas=0)

    window = dec.reconstruction.isig[702.0:706.3].data.sum(axis=-1)
    np.testing.assert_allclose(0.5 * (low.data + high.data), window, rtol=1e-4)


def test_abundances_have_intervals_and_no_drawn_one_is_negative(fitted):
    signal, simplex = fitted("simplex")

    low, high = simplex.interval(0)
    assert (low.data <= simplex.scores.data[0]).all()
    assert (simplex.scores.data[0] <= high.data).all()
    assert (low.data < high.data).all()
    assert low.data.min() >= 0
    assert high.data.max() <= 1
    first, second = simplex.interval(0, level=0.9999, replicas=0)  # so wide that they would pass both ends
    assert (first.data.min(), second.data.max()) == (0, 1)
    assert axes_of(low) == axes_of(simplex.intensity)
    new = simplex.generate((30, 20))
    assert new.data.min() >= 0
    np.testing.assert_allclose(new.data.mean(axis=(0, 1)), signal.data.mean(axis=(0, 1)), rtol=0.3)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((100, 200), "no channel in use lies between 100 and 200"),
        ("Fe_Xx", "lines of the sample's elements here are .*Fe_L3"),
        (3, "there are components 0 to 2"),
        (1.5, "this is none of them"),
        ((1, "Fe_L3"), "this is none of them"),
    ],
)
def test_what_is_no_quantity_is_refused(dec, asked, said):
    with pytest.raises(OptionError, match=said):
        dec.interval(asked, replicas=0)


def test_levels_and_replicas_are_checked(dec):
    with pytest.raises(OptionError, match=r"level=90\) must be between 0 and 1"):
        dec.interval("Fe_L3", level=90)
    with pytest.raises(OptionError, match=r"replicas=-1\) must be a whole number"):
        dec.interval("Fe_L3", replicas=-1)


def test_new_maps_are_native_and_like_the_old_one(dec, fitted):
    signal = fitted("vae")[0]

    new = dec.generate((5, 40), random_state=3)

    assert type(new) is type(signal)
    assert new.data.shape == (5, 40, 61)
    assert new.data.dtype.kind == "i"
    assert axes_of(new)[2] == axes_of(signal)[2]
    assert [a[:4] for a in axes_of(new)[:2]] == [a[:4] for a in axes_of(signal)[:2]]
    np.testing.assert_allclose(new.data.mean(axis=(0, 1)), signal.data.mean(axis=(0, 1)), rtol=0.2)
    said = specml.provenance(new)
    assert 0.3 < said["floor"] < 0.7
    assert said["two_sample"] < 0.8
    np.testing.assert_array_equal(new.data, dec.generate((5, 40), random_state=3).data)
    bright = dec.generate((200,), intensity=5000)
    np.testing.assert_allclose(bright.data.sum(axis=-1).mean(), 5000, rtol=0.01)
    np.testing.assert_allclose(bright.data.sum(axis=-1).std(), 5000**0.5, rtol=0.2)
    with pytest.raises(OptionError, match=r"needs the shape of a scan"):
        dec.generate(64)


def test_replicas_are_cancelled_and_nothing_of_them_is_kept(dec):
    progress = specml.Progress()
    progress.cancel()

    with pytest.raises(Cancelled):
        dec.interval((702, 706), replicas=9, progress=progress)

    assert len(dec.generate((2,)).data) == 2
