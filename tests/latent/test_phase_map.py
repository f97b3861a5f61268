"""Phases of small simulated maps, whose truth is planted."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from hyperspy_specml import datasets, load_result
from hyperspy_specml.exceptions import OptionError, TooFewSpectraError

N_CHANNELS = 96


def planted(shape=(24, 28), *, dose=60.0, seed=0, one=False):
    """Three phases in stripes of unequal width that differ by one line each; counts and labels."""
    channel = np.arange(N_CHANNELS)
    lines = [np.exp(-0.5 * ((channel - centre) / 2.5) ** 2) for centre in (20, 45, 70)]
    spectra = np.array([0.02 + line for line in lines])
    spectra /= spectra.sum(axis=1, keepdims=True)
    x = np.broadcast_to(np.arange(shape[-1]), shape)
    labels = np.zeros(shape, int) if one else np.digitize(x, [shape[-1] // 2, 3 * shape[-1] // 4])
    rng = np.random.default_rng(seed)
    thickness = np.linspace(0.5, 1.5, shape[0])[:, None, None]
    return rng.poisson(dose * thickness * spectra[labels]).astype(np.uint8), labels


def agreement(found, truth):
    """Return the largest part of pixels that agree under any naming of the phases."""
    k = int(max(found.max(), truth.max())) + 1
    return max(np.mean(np.array(order)[found] == truth) for order in permutations(range(k)))


@pytest.fixture(scope="module")
def result(make_map):
    data, labels = planted()
    signal = make_map(data=data, signal_type="EELS")
    return signal, signal.phase_map(show_progressbar=False), labels


def test_the_planted_number_of_phases_and_their_places_are_found(result):
    _, phases, labels = result
    assert len(phases.names) == 3
    assert agreement(phases.labels.data, labels) > 0.98


def test_shares_are_those_of_the_truth_within_their_errors_and_in_calibrated_units(result):
    _, phases, labels = result
    truth = np.sort(np.bincount(labels.ravel()) / labels.size)[::-1]
    for row, share in zip(phases.shares, truth, strict=True):
        assert abs(row.share - share) <= 3 * row.share_error + 0.002
        assert row.area == pytest.approx(row.share * labels.size * 0.2 * 0.1)
        assert set(row.area_units.split("·")) == {"nm", "µm"}


def test_summed_spectra_are_the_counts_of_their_pixels(result):
    signal, phases, _ = result
    pure = phases.mixed.data <= 0.25
    for k, n in enumerate(phases.n_spectra):
        chosen = (phases.labels.data == k) & pure
        assert chosen.sum() == n
        np.testing.assert_array_equal(phases.spectra.data[k], signal.data[chosen].sum(axis=0, dtype=np.int64))
    assert type(phases.spectra) is type(signal)


def test_a_lazy_map_in_any_chunks_gives_the_same(make_map, result):
    import dask.array as da

    signal, phases, _ = result
    lazy = make_map(data=da.from_array(signal.data, chunks=(7, 11, 40)), signal_type="EELS")
    again = lazy.phase_map(show_progressbar=False)
    np.testing.assert_array_equal(again.labels.data, phases.labels.data)
    np.testing.assert_array_equal(again.spectra.data, phases.spectra.data)


@pytest.mark.parametrize("seed", [0, 4])
def test_all_counts_find_a_phase_that_one_fold_of_them_cannot_tell(make_map, seed):
    channel = np.arange(N_CHANNELS)
    line = [np.exp(-0.5 * ((channel - centre) / 2.5) ** 2) for centre in (20, 45, 70)]
    spectra = 0.05 + np.array([line[0], line[1], 0.7 * line[1] + 0.3 * line[2]])
    spectra /= spectra.sum(axis=1, keepdims=True)
    labels = np.broadcast_to(np.digitize(np.arange(48), [24, 36]), (40, 48))
    # four counts in a spectrum, 0.6 of them in the fold that chooses
    data = np.random.default_rng(seed).poisson(4 * spectra[labels]).astype(np.uint8)
    phases = make_map(data=data, signal_type="EELS").phase_map(show_progressbar=False)
    assert len(phases.names) == 3
    assert phases.report.all_counts
    assert "by all counts" in str(phases.report)
    used = phases.labels.data >= 0
    assert agreement(phases.labels.data[used], labels[used]) > 0.9


def test_a_large_map_is_learnt_from_boxes_and_assigned_as_a_whole(make_map, monkeypatch):
    monkeypatch.setattr("hyperspy_specml.latent._table._MOST_VALUES", 3 * 32 * 32 * N_CHANNELS)
    data, labels = planted((66, 70))
    assert 66 * 70 > 3 * 32 * 32
    phases = make_map(data=data, signal_type="EELS").phase_map(show_progressbar=False)
    assert len(phases.names) == 3
    assert agreement(phases.labels.data, labels) > 0.98


def drifting(*, seed, first, last):
    """The planted map on a background, with scan lines that lie higher by `first` to `last` channels; and labels."""
    data, labels = planted(seed=seed)
    background = np.broadcast_to(4 * np.linspace(0.5, 1.5, len(data))[:, None, None], data.shape)
    data = data + np.random.default_rng(seed + 1).poisson(background).astype(np.uint8)
    by = np.linspace(first, last, len(data)).round().astype(int)
    return np.stack([np.roll(row, k, axis=-1) for row, k in zip(data, by, strict=True)]), labels


def test_scan_lines_that_drift_along_energy_are_taken_back_here_and_in_the_next_map(make_map):
    data, labels = drifting(seed=0, first=0, last=6)
    phases = make_map(data=data, signal_type="EELS").phase_map(show_progressbar=False)
    assert phases.report.drift >= 2
    assert np.isnan(phases.spectra.data[:, 0]).all()  # no more than a part of the lines has it
    assert len(phases.names) == 3
    assert agreement(phases.labels.data, labels) > 0.98

    data, labels = drifting(seed=5, first=5, last=2)
    again = make_map(data=data, signal_type="EELS").phase_map(model=phases.model, show_progressbar=False)
    assert again.report.drift == 2  # from 2 to -1, as lines lie 3 too high in the mean of the first map
    known = again.labels.data >= 0
    assert known.mean() > 0.9
    assert agreement(again.labels.data[known], labels[known]) > 0.98


def test_a_thickness_ramp_of_one_phase_is_one_phase(make_map):
    data, _ = planted(one=True)
    assert len(make_map(data=data).phase_map(show_progressbar=False).names) == 1


def test_the_input_is_not_changed_and_masked_pixels_are_not_used(make_map, unchanged):
    data, labels = planted()
    signal, mask = unchanged(make_map(data=data)), np.zeros(labels.shape, bool)
    mask[:5, 3] = True
    phases = signal.phase_map(3, navigation_mask=mask, show_progressbar=False)
    assert (phases.labels.data[mask] == -1).all()
    assert (phases.labels.data[~mask] >= 0).all()
    assert np.isnan(phases.probability.data[:, mask]).all()


def test_known_phases_are_recognised_and_a_foreign_one_is_rejected(make_map, result, tmp_path):
    _, phases, _ = result
    path = phases.model.save(tmp_path / "steel")
    data, labels = planted(seed=3, dose=120.0)
    foreign = np.zeros(labels.shape, bool)
    foreign[10:14, 5:9] = True
    channel = np.arange(N_CHANNELS)
    line = np.exp(-0.5 * ((channel - 85) / 2.5) ** 2)
    data[foreign] = np.random.default_rng(1).poisson(40 * line / line.sum(), (int(foreign.sum()), N_CHANNELS))
    found = make_map(data=data).phase_map(model=str(path), show_progressbar=False)
    assert (found.labels.data[foreign] == -2).mean() > 0.9
    assert (found.labels.data[~foreign] == -2).mean() < 0.05
    known = ~foreign & (found.labels.data >= 0)
    assert agreement(found.labels.data[known], labels[known]) > 0.98


def test_labelled_pixels_give_phases_their_numbers(make_map):
    data, labels = planted(seed=2)
    given = np.full(labels.shape, -1)
    for phase, column in ((0, 26), (1, 3), (2, 17)):  # not in the order of their shares
        given[4:7, column] = phase
    phases = make_map(data=data).phase_map(labels=given, show_progressbar=False)
    assert (phases.labels.data == np.array([1, 2, 0])[labels]).mean() > 0.98


def test_a_rare_phase_that_is_handed_over_stays_a_phase(make_map):
    data, labels = planted(seed=4, dose=120.0)
    channel = np.arange(N_CHANNELS)
    line = np.exp(-0.5 * ((channel - 85) / 2.5) ** 2)
    rare = np.zeros(labels.shape, bool)
    rare[9:12, 4:8] = True  # 12 pixels: too few for held-out counts
    data[rare] += np.random.default_rng(1).poisson(60 * line / line.sum(), (12, N_CHANNELS)).astype(np.uint8)
    signal = make_map(data=data, signal_type="EELS")
    known = signal.inav[4:8, 9:12].sum()
    phases = signal.phase_map(known=known, show_progressbar=False)
    assert phases.names[0] == "known 0"
    assert (phases.labels.data[rare] == 0).mean() > 0.8
    assert (phases.labels.data[~rare] == 0).mean() < 0.02
    assert len(phases.names) == 4


def test_names_follow_the_result_and_its_model(result):
    _, phases, _ = result
    renamed = phases.rename({1: "ferrite"})
    assert renamed.names[1] == renamed.shares[1].name == renamed.model.model.names[1] == "ferrite"
    with pytest.raises(OptionError, match=r"phases are 0 to 2"):
        phases.rename({7: "ferrite"})


def test_a_saved_result_is_the_same_again(result, tmp_path):
    _, phases, _ = result
    again = load_result(phases.rename({0: "ferrite"}).save(tmp_path / "phases"))
    for name in ("labels", "probability", "mixed", "spectra"):
        one, other = (getattr(of, name) for of in (again, phases))
        np.testing.assert_array_equal(one.data, other.data)
        assert type(one) is type(other)
    assert again.names[0] == again.shares[0].name == "ferrite"
    assert list(again.shares)[1:] == list(phases.shares)[1:]
    assert str(again.report) == str(phases.report)
    np.testing.assert_array_equal(again.latent_view().coordinates.data, phases.latent_view().coordinates.data)


def test_exspy_quantifies_the_summed_spectra_of_phases():
    simulated = datasets.fe_cr_ni_map((14, 18), texture="grains", n_channels=512, dose=400)
    phases = simulated.signal.phase_map(show_progressbar=False)
    spectra = phases.spectra
    spectra.set_elements(["Fe", "Cr", "Ni"])
    spectra.set_lines(["Fe_Ka", "Cr_Ka", "Ni_Ka"])
    lines = spectra.get_lines_intensity()
    found = spectra.quantification(lines, method="CL", factors=[1.0, 1.0, 1.0], plot_result=False)
    parts = np.stack([one.data for one in found])
    np.testing.assert_allclose(parts.sum(axis=0), 100, rtol=1e-6)
    assert parts.shape[1] == len(phases.names)
    assert np.ptp(parts, axis=1).max() > 10  # phases differ


def test_what_a_model_has_decided_is_refused_beside_it(make_map, result):
    signal, phases, _ = result
    with pytest.raises(OptionError, match=r"phase_map\(n_phases=\.\.\., model=.*find the phases anew"):
        signal.phase_map(3, model=phases.model)
    with pytest.raises(OptionError, match=r"level=0\.2.*model=phases\.model"):
        signal.phase_map(level=0.2)


def test_a_view_marks_pixels_and_is_native(result):
    signal, phases, _ = result
    view = phases.latent_view()
    assert view.coordinates.data.shape == (2, *signal.data.shape[:-1])
    assert view.coordinates.axes_manager.signal_axes[0].units == "µm"
    with pytest.raises(OptionError, match="method"):
        phases.latent_view(method="tsne")


def test_the_view_of_a_decomposition_does_not_depend_on_the_dose(make_map):
    data, labels = planted(dose=400.0)
    dec = make_map(data=data, signal_type="EELS").decomposition_ae(3, architecture="pca", show_progressbar=False)
    x, y = dec.latent_view().coordinates.data
    thickness = np.linspace(0.5, 1.5, labels.shape[0])[:, None] * np.ones(labels.shape[1])
    for k in range(3):
        inside = labels == k
        assert abs(np.corrcoef(x[inside], thickness[inside])[0, 1]) < 0.3
    centres = np.array([[c[labels == k].mean() for c in (x, y)] for k in range(3)])
    apart = np.linalg.norm(centres[:, None] - centres, axis=-1)[np.triu_indices(3, 1)]
    assert apart.min() > 4 * max(np.hypot(x[labels == k].std(), y[labels == k].std()) for k in range(3))


def test_too_few_spectra_are_refused_with_the_argument_of_this_method(make_map):
    signal = make_map(data=planted((2, 3))[0])

    with pytest.raises(TooFewSpectraError, match=r"7 phases need at least 8 spectra .* there are 6 .*n_phases=1"):
        signal.phase_map(7, show_progressbar=False)
