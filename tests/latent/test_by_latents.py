"""Phases in the latents of a decomposition, where spectra vary within them."""

from __future__ import annotations

import numpy as np
import pytest

from hyperspy_specml.exceptions import OptionError
from hyperspy_specml.latent._latent_law import LatentLaw

SHAPE, N_CHANNELS = (20, 26), 96
CHANNEL = np.arange(N_CHANNELS)


def lines(*centres):
    return sum(np.exp(-0.5 * ((CHANNEL - np.asarray(c)[..., None]) / 2.5) ** 2) for c in centres)


@pytest.fixture(scope="module")
def bent(make_map):
    """A phase whose line moves by three of its widths along y, and one without; counts, PCA of them, and labels."""
    y, x = np.indices(SHAPE)
    labels = (x >= 12).astype(int)
    moving = 20 + 8 * y / (SHAPE[0] - 1)
    mean = 0.02 + np.where(labels[..., None] == 0, lines(moving, np.full(SHAPE, 60)), lines(np.full(SHAPE, 75)))
    mean *= 200 * np.linspace(0.5, 1.5, SHAPE[1])[:, None] / mean.sum(axis=-1, keepdims=True)
    signal = make_map(data=np.random.default_rng(0).poisson(mean).astype(np.uint16), signal_type="EELS")
    return signal, signal.decomposition_ae(4, architecture="pca", show_progressbar=False), labels


@pytest.fixture(scope="module")
def result(bent):
    signal, dec, labels = bent
    return signal.phase_map(model=dec.model, show_progressbar=False), labels


def test_a_phase_within_which_a_line_moves_is_one_phase(result):
    phases, labels = result
    assert len(phases.names) == 2
    found = phases.labels.data
    assert max(np.mean(found == labels), np.mean(found == 1 - labels)) > 0.99
    assert "'pca'" in str(phases.report)


def test_spectra_are_sums_of_counts_and_other_numbers_can_be_had(bent, result):
    signal, _, _ = bent
    phases, _ = result
    for k, n in enumerate(phases.n_spectra):
        assert n == (phases.labels.data == k).sum()
        np.testing.assert_array_equal(phases.spectra.data[k], signal.data[phases.labels.data == k].sum(axis=0))
    assert 3 in phases.alternatives
    assert len(phases.at_number(3).names) == 3


def test_a_lazy_map_learnt_from_boxes_gives_the_same_phases(bent, result, make_map, monkeypatch):
    import dask.array as da

    signal, dec, labels = bent
    data = np.tile(signal.data, (2, 3, 1))
    monkeypatch.setattr("hyperspy_specml.latent._table._MOST_VALUES", 32 * 32 * N_CHANNELS)
    lazy = make_map(data=da.from_array(data, chunks=(17, 30, 50)), signal_type="EELS")
    phases = lazy.phase_map(2, model=dec.model, show_progressbar=False)
    truth, found = np.tile(labels, (2, 3)), phases.labels.data
    assert max(np.mean(found == truth), np.mean(found == 1 - truth)) > 0.98


def test_labelled_pixels_and_masks_go_with_a_decomposition(bent):
    signal, dec, labels = bent
    given, mask = np.full(SHAPE, -1), np.zeros(SHAPE, bool)
    given[3:9, 20], given[::4, 4], mask[:3, :4] = 0, 1, True
    phases = signal.phase_map(labels=given, model=dec.model, navigation_mask=mask, show_progressbar=False)
    assert (phases.labels.data[~mask] == 1 - labels[~mask]).mean() > 0.99
    assert (phases.labels.data[mask] == -1).all()


def test_what_needs_spectra_is_refused_beside_a_decomposition(bent):
    signal, dec, _ = bent
    with pytest.raises(OptionError, match=r"known=\.\.\., model=.*in the spectra"):
        signal.phase_map(known=signal.inav[0, 0], model=dec.model)
    with pytest.raises(OptionError, match=r"level=\.\.\., model="):
        signal.phase_map(level=0.2, model=dec.model)


def test_the_law_finds_means_and_variation_beyond_the_error():
    rng = np.random.default_rng(0)
    error = rng.uniform(0.5, 3, 4000)
    own = np.array([4.0, -1.0]) + rng.standard_normal((4000, 2)) * [3.0, 0.0]
    values = np.column_stack([own + rng.standard_normal((4000, 2)) * np.sqrt(error)[:, None], error])
    law = LatentLaw(2)
    phases = law.update(values, np.ones((1, 4000)), np.zeros((1, 3)))
    phases = law.update(values, np.ones((1, 4000)), phases)
    np.testing.assert_allclose(phases[0, :2], [4, -1], atol=0.2)
    np.testing.assert_allclose(phases[0, 2:].reshape(2, 2), [[9, 0], [0, 0]], atol=0.6)


def test_halves_of_a_gradient_go_over_and_two_narrow_phases_do_not():
    law, half = LatentLaw(1), 20**2 / 48  # the variance of an even half of a gradient over 20 errors
    assert law.go_over(np.array([[0.0, half], [10.0, half]]), 0, 1)
    assert not law.go_over(np.array([[0.0, 1.0], [10.0, 1.0]]), 0, 1)
    whole = law.joined(np.array([[0.0, half], [10.0, half]]), np.array([0.5, 0.5]), 0, 1)
    np.testing.assert_allclose(whole, [5, 4 * half])


def test_a_mean_on_the_line_between_two_others_is_their_mixture():
    phases = np.hstack([np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 0.2]]), np.tile(np.eye(2).ravel(), (3, 1))])
    distance, shares = LatentLaw(2).distance_to_mixtures(phases, 2)
    assert distance == pytest.approx(0.05)
    np.testing.assert_allclose(shares, [0.75, 0.25, 0])
