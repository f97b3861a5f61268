"""Models of spectra that may each be moved along energy, and find by how much."""

from __future__ import annotations

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml.decompose._moving import moving_model
from hyperspy_specml.models import LinearModel, Parts, parts_of
from hyperspy_specml.prepare import Moves
from hyperspy_specml.statistics import PoissonNoise, moments_of, principal_basis

E, LARGEST, N = 90, 4.0, 330
CHANNELS = np.arange(E)
BY = np.array([(0.0, 0.0), (1.0, 0.0), (-0.4, 1.0)])  # of all channels, and of the ends


def lines(shares):
    """(n, E) expectations: sharp lines of two phases on a slope."""
    places, heights = [14.0, 31.0, 52.0, 70.0], np.array([[1.0, 0.2, 0.8, 0.1], [0.1, 0.9, 0.2, 0.6]])
    peaks = np.exp(-((CHANNELS - np.array(places)[:, None]) ** 2) / (2 * 1.2**2))
    return 40 * (np.column_stack([shares, 1 - shares]) @ heights @ peaks + 0.05 - 0.0003 * CHANNELS)


@pytest.fixture(scope="module")
def clean():
    return lines(np.random.default_rng(0).uniform(0, 1, N))


@pytest.fixture(scope="module")
def moves():
    return Moves(CHANNELS, LARGEST)


@pytest.fixture(scope="module")
def model(clean, moves):
    counts = np.random.default_rng(1).poisson(clean).astype(np.float32)
    basis = principal_basis(moments_of(counts), PoissonNoise(), n_vectors=9)
    return moving_model(LinearModel(basis.first(2)), moves, basis.first(2).project(counts), PoissonNoise(), n_signal=2)


def excess(estimate, clean):
    inner = slice(8, -8)  # what comes in at the ends, no model knows
    clean, estimate = clean[:, inner], np.maximum(estimate[:, inner], 0.02).astype(np.float64)
    return 2 * (clean * np.log(clean / estimate) - clean + estimate).sum(axis=1).mean()


def test_shift_and_stretch_of_each_spectrum_are_found(model, clean, moves):
    rng = np.random.default_rng(2)
    for by, moved in zip(BY, moves.moved(clean, BY), strict=True):
        shift, stretch = model.encode(rng.poisson(moved))[:, -2:].T

        assert shift.mean() == pytest.approx(LARGEST * by[0], abs=0.1)
        assert stretch.mean() == pytest.approx(LARGEST * by[1], abs=0.25)
        assert shift.std() < 0.5  # channels; some 120 counts in lines of a standard deviation of 1.2


def test_it_describes_moved_spectra_nearly_as_well_as_those_that_stay(model, clean, moves):
    rng = np.random.default_rng(3)

    still, shifted, stretched = (excess(model.expect(rng.poisson(moved)), moved) for moved in moves.moved(clean, BY))

    assert still < 6  # two components, the intensity that they hold, a shift and a stretch cost one each
    assert max(shifted, stretched) < 1.25 * still


def test_it_comes_back_from_a_file(model, clean):
    parts = parts_of(model)
    again = Parts(parts.settings, parts.arrays).model()
    counts = np.random.default_rng(4).poisson(clean)

    np.testing.assert_array_equal(again.encode(counts), model.encode(counts))
    np.testing.assert_array_equal(again.expect(counts), model.expect(counts))
    assert again.outputs == model.outputs == {"shift": "channels", "stretch": "channels"}


def test_in_wider_channels_the_same_move_is_fewer_of_them(model, clean, moves):
    def paired(rows):
        return rows[:, ::2] + rows[:, 1::2]

    (moved,) = moves.moved(clean, BY[1:2])
    shift, _ = model.resampled(paired).encode(paired(np.random.default_rng(7).poisson(moved)))[:, -2:].T

    assert shift.mean() == pytest.approx(0.5 * LARGEST * BY[1, 0], abs=0.1)


@pytest.mark.parametrize(
    ("change", "words"), [({"reach": 0.0}, "no grid"), ({"place": 2}, "place|sought"), ({"centre": 1}, "centre")]
)
def test_a_damaged_one_is_refused(model, change, words):
    parts = parts_of(model)
    arrays = {name: parts.arrays[name][cut:] for name, cut in change.items() if name in parts.arrays}
    settings = {name: value for name, value in change.items() if name in parts.settings}

    with pytest.raises(ValueError, match=words):
        Parts(parts.settings | settings, parts.arrays | arrays).model()


def test_a_spectrum_without_a_number_has_no_shift_and_no_spectrum(model, clean):
    columns = model.encode(np.where(np.arange(N)[:, None] == 5, np.nan, clean).astype(np.float32))

    assert np.isnan(columns[5]).all()
    assert np.isfinite(np.delete(columns, 5, axis=0)).all()
    assert np.isnan(model.decode(columns)[5]).all()


@pytest.mark.filterwarnings("ignore::hyperspy_specml.exceptions.BaselineBetterWarning")
@pytest.mark.parametrize("options", [specml.DenseOptions(augment=LARGEST), specml.ConvOptions(augment=LARGEST)])
def test_sharp_lines_that_move_are_described_as_well_as_where_they_were(clean, moves, options):
    def signal(expected, seed):
        counts = np.random.default_rng(seed).poisson(expected).reshape(15, 22, E).astype(np.int32)
        made = hs.signals.Signal1D(counts)
        made.axes_manager[-1].scale, made.axes_manager[-1].units = 0.5, "eV"
        return made

    architecture = "conv" if isinstance(options, specml.ConvOptions) else "dense"
    config = specml.TrainConfig(max_steps=60, evaluate_every=20)
    first = signal(clean, 5).decomposition_ae(
        2, architecture=architecture, options=options, config=config, show_progressbar=False
    )
    found = []
    for i, moved in enumerate(moves.moved(clean, BY)):
        second = signal(moved, 6 + i).decomposition_ae(model=first.model, show_progressbar=False)
        found.append(excess(second.reconstruction.data.reshape(-1, E), moved))
        assert second.outputs["shift"].data.mean() == pytest.approx(0.5 * LARGEST * BY[i, 0], abs=0.1)  # eV

    assert max(found[1:]) < 1.25 * found[0]  # learnt by a network from moved copies: 13 to 35
