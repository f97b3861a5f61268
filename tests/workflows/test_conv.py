"""Convolutions, and training on moved copies, as users see them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.exceptions import OptionError

SMALL = specml.ConvOptions(n_filters=4, n_hidden=16, augment=1.5)


def test_the_report_has_pca_beside_it(fitted):
    signal, dec = fitted("conv")

    names = [candidate.name for candidate in dec.report.candidates]
    assert names[0] == "conv (3)"
    assert "pca (3)" in names
    assert dec.report.best_step > 0
    np.testing.assert_allclose(dec.reconstruction.data.sum(axis=-1), signal.data.sum(axis=-1), rtol=2e-3)


def test_it_is_the_same_lazy_or_not_and_says_what_was_not_used(make_map, make_counts, decompose):
    counts = make_counts((7, 11))
    mask, channels = np.zeros((7, 11), bool), np.zeros(61, bool)
    mask[4, 5] = channels[7] = True
    eager = make_map(data=counts)
    lazy = make_map(data=counts).as_lazy()
    lazy.data = lazy.data.rechunk((3, 4, 20))

    options = {"architecture": "conv", "options": SMALL, "navigation_mask": mask, "signal_mask": channels}
    one, other = (decompose(s, 2, **options) for s in (eager, lazy))

    np.testing.assert_array_equal(one.scores.data, other.scores.data)
    np.testing.assert_allclose(other.reconstruction.data.compute(), one.reconstruction.data, rtol=1e-4, atol=1e-4)
    assert np.isnan(one.scores.data[:, 4, 5]).all()


def test_values_below_zero_and_a_chosen_number(make_map, make_counts, decompose):
    values = make_counts((9, 11)) - 30.0
    config = specml.TrainConfig(max_steps=20, evaluate_every=20)

    dec = decompose(
        make_map(data=values.astype(np.float32)), None, architecture="conv", options=SMALL, noise="auto", config=config
    )

    assert dec.report.n_components >= 1
    assert dec.residual.data.std() < 1.1 * dec.baseline.residual.data.std()


@pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.BaselineBetterWarning")
@pytest.mark.parametrize("architecture", ["dense", "conv"])
def test_what_was_trained_on_moved_copies_holds_on_a_map_that_is_shifted(
    make_map, make_counts, decompose, architecture
):
    counts, second = make_counts((9, 17)), make_counts((7, 11), seed=5)
    shifted = make_map(data=np.roll(second, 2, axis=-1))
    small = {"dense": specml.DenseOptions(n_hidden=32), "conv": specml.ConvOptions(n_filters=4, n_hidden=32)}
    config = specml.TrainConfig(max_steps=120, evaluate_every=40)

    def error(augment):
        options = replace(small[architecture], augment=augment)
        dec = decompose(make_map(data=counts), 4, architecture=architecture, options=options, config=config)
        found = shifted.decomposition_ae(model=dec.model, show_progressbar=False).residual.data
        return (found**2).mean()

    assert error(2.5) < 0.75 * error(0.0)  # measured: .55 to .65, where noise alone is .5


@pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.BaselineBetterWarning")
def test_moved_copies_are_learnt_also_where_the_spectra_as_they_are_gain_nothing():
    alloy = specml.datasets.fe_cr_ni_map((20, 20), n_channels=128, dose=200.0)  # PCA describes it, as it is, fully
    truth = np.roll(alloy.clean.data, 2, axis=-1)
    shifted = alloy.signal._deepcopy_with_new_data(np.random.default_rng(1).poisson(truth).astype(np.int32))

    def error(augment):
        options = specml.DenseOptions(n_hidden=32, augment=augment)
        config = specml.TrainConfig(max_steps=300, evaluate_every=50)
        dec = alloy.signal.decomposition_ae(4, options=options, config=config, show_progressbar=False)
        found = shifted.decomposition_ae(model=dec.model, show_progressbar=False).reconstruction.data
        return ((found - truth)[..., 3:-3] ** 2).mean()

    assert error(2.5) < 0.6 * error(0.0)  # measured: .34; stopped by the spectra as they are, 1.02


@pytest.mark.parametrize("kind", [specml.DenseOptions, specml.ConvOptions])
@pytest.mark.parametrize("augment", [-1.0, float("nan"), float("inf"), "2"])
def test_moves_that_cannot_be_are_refused_at_once(kind, augment):
    with pytest.raises(OptionError, match=rf"{kind.__name__}\(augment=.* must be a number of channels"):
        kind(augment=augment)


@pytest.mark.parametrize("sizes", [{"n_filters": 0}, {"n_hidden": 2.5}], ids=str)
def test_sizes_that_no_network_has_are_refused(sizes):
    with pytest.raises(OptionError, match=r"ConvOptions\(.* must be a whole number from 1 to "):
        specml.ConvOptions(**sizes)


def test_moves_beyond_a_quarter_of_the_axis_are_refused(make_map, make_counts, decompose):
    with pytest.raises(OptionError, match=r"augment=40\) moves spectra by more than a quarter of their axis, 15"):
        decompose(make_map(data=make_counts((7, 9))), 2, options=specml.DenseOptions(augment=40))
