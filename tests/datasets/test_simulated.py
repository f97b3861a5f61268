"""Simulated maps are native, seeded, and drawn again at any dose from the same truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import hyperspy_specml
from hyperspy_specml.datasets import RarePhase, ShiftedEdge, fe_cr_ni_map, fe_l_map
from hyperspy_specml.exceptions import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperspy_specml.datasets import SimulatedMap

    Maker = Callable[..., SimulatedMap]

MAKERS = [fe_cr_ni_map, fe_l_map]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", [(7, 5), (11,), (3, 5, 7)])
@pytest.mark.parametrize("rare", [True, False])
def test_lazy_map_is_the_eager_one(make: Maker, shape: tuple[int, ...], rare: bool) -> None:
    plant = {fe_cr_ni_map: RarePhase(n_pixels=3), fe_l_map: ShiftedEdge(n_pixels=3)}[make] if rare else None
    eager = make(shape, n_channels=64, rare_phase=plant)
    lazy = make(shape, n_channels=64, rare_phase=plant, lazy=True)

    for name in ("signal", "clean"):
        one, other = getattr(eager, name), getattr(lazy, name)
        assert other._lazy
        assert type(other).__name__ == f"Lazy{type(one).__name__}"
        assert other.data.dtype == one.data.dtype
        assert other.data.chunks[-1] == (64,)  # whole spectra
        np.testing.assert_array_equal(other.data.compute(), one.data)
    assert not any(signal._lazy for signal in lazy.truth.values())


def test_chunks_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fe_l_map((7, 5), n_channels=16, lazy=True)
    monkeypatch.setattr("hyperspy_specml.datasets._simulated._BLOCK_BYTES", 1)
    lines = fe_l_map((7, 5), n_channels=16, lazy=True)

    assert len(whole.signal.data.chunks[0]) == 1
    assert len(lines.signal.data.chunks[0]) == 7
    np.testing.assert_array_equal(lines.signal.data.compute(), whole.signal.data.compute())


@pytest.mark.usefixtures("no_compute")
def test_lazy_alloy_computes_nothing_while_it_is_built() -> None:
    simulated = fe_cr_ni_map((7, 5), n_channels=64, lazy=True)

    assert simulated.counts(dose=1e6)._lazy


@pytest.mark.parametrize("make", MAKERS)
def test_same_seed_gives_the_same_map_and_another_seed_another(make: Maker) -> None:
    first, again, other = (make((7, 5), n_channels=64, random_state=seed) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first.signal.data, again.signal.data)
    assert (first.signal.data != other.signal.data).any()
    assert not np.allclose(first.clean.data, other.clean.data)


@pytest.mark.parametrize("make", MAKERS)
def test_truth_does_not_depend_on_the_dose(make: Maker) -> None:
    low, high = make((7, 5), n_channels=64, dose=3), make((7, 5), n_channels=64, dose=3000)

    np.testing.assert_allclose(high.clean.data, 1000 * low.clean.data, rtol=1e-5)
    for name, signal in low.truth.items():
        np.testing.assert_array_equal(signal.data, high.truth[name].data)


@pytest.mark.parametrize("lazy", [True, False])
def test_counts_are_drawn_again_at_another_dose(lazy: bool) -> None:
    simulated = fe_l_map((19, 13), dose=30, lazy=lazy)
    redrawn = simulated.counts(dose=3000, random_state=5)
    mean = redrawn.data.mean()

    assert redrawn.data.dtype == np.uint16
    assert redrawn._lazy is lazy
    assert type(redrawn) is type(simulated.signal)
    assert redrawn.metadata.General.title == "Simulated Fe-L2,3 map"
    assert float(mean) == pytest.approx(3000, rel=1e-3)


def test_counts_of_the_maps_own_seed_and_dose_are_its_signal() -> None:
    simulated = fe_l_map((7, 5), n_channels=64)

    np.testing.assert_array_equal(simulated.counts().data, simulated.signal.data)


def test_noise_of_two_seeds_is_poisson_and_independent() -> None:
    simulated = fe_l_map((31, 23))
    expected = simulated.clean.data.astype(float)
    z = [(simulated.counts(random_state=seed).data - expected) / np.sqrt(expected) for seed in (1, 2)]

    assert np.var(z[0]) == pytest.approx(1, abs=0.01)
    assert abs(np.mean(z[0] * z[1])) < 4 / np.sqrt(expected.size)
    assert abs(np.mean(z[0][1:] * z[0][:-1])) < 4 / np.sqrt(expected.size)  # between scan lines


def test_counts_take_the_smallest_unsigned_type_that_holds_them() -> None:
    simulated = fe_cr_ni_map((7, 5), n_channels=64)

    for dose, dtype in ((50, np.uint8), (5e4, np.uint16), (5e8, np.uint32)):
        assert simulated.counts(dose=dose).data.dtype == dtype


@pytest.mark.parametrize("dose", [0, -3, np.nan])
def test_counts_need_a_dose(dose: float) -> None:
    with pytest.raises(OptionError, match="positive number"):
        fe_l_map((7, 5), n_channels=16).counts(dose=dose)


@pytest.mark.parametrize("make", MAKERS)
def test_map_survives_saving_with_its_axes_and_class(make: Maker, tmp_path: Path) -> None:
    import hyperspy.api as hs

    simulated = make((7, 5), n_channels=64)
    simulated.signal.save(tmp_path / "map.hspy")
    loaded = hs.load(tmp_path / "map.hspy")

    assert type(loaded) is type(simulated.signal)
    assert loaded.metadata.as_dictionary()["Signal"] == simulated.signal.metadata.as_dictionary()["Signal"]
    np.testing.assert_array_equal(loaded.data, simulated.signal.data)
    for axis, original in zip(loaded.axes_manager._axes, simulated.signal.axes_manager._axes, strict=True):
        assert (axis.name, axis.units, axis.size) == (original.name, original.units, original.size)
        assert (axis.scale, axis.offset) == pytest.approx((original.scale, original.offset))


@pytest.mark.parametrize(
    ("make", "signal_type", "units", "first", "last"),
    [(fe_cr_ni_map, "EDS_TEM", "keV", 0.0, 20.47), (fe_l_map, "EELS", "eV", 690.0, 741.1)],
)
def test_signals_are_native_and_calibrated(
    make: Maker, signal_type: str, units: str, first: float, last: float
) -> None:
    kind = {"n_channels": 2048 if signal_type == "EDS_TEM" else 512}
    simulated = make((5, 7), **kind)
    energy = simulated.signal.axes_manager.signal_axes[0]

    assert simulated.signal.metadata.Signal.signal_type == signal_type
    assert simulated.signal.axes_manager.navigation_shape == (7, 5)  # x, y
    assert (energy.axis[0], energy.axis[-1]) == pytest.approx((first, last))
    assert energy.units == units
    assert [axis.units for axis in simulated.signal.axes_manager.navigation_axes] == ["nm", "nm"]
    assert simulated.signal.metadata.Acquisition_instrument.TEM.beam_energy == 200


def test_truth_is_navigation_signals_and_maps_of_the_same_scan() -> None:
    simulated = fe_cr_ni_map((5, 7), n_channels=64, rare_phase=RarePhase(n_pixels=4))

    abundances = simulated.truth["abundances"].axes_manager
    assert (abundances.navigation_shape, abundances.signal_shape) == ((4,), (7, 5))
    assert abundances.signal_axes[0].scale == simulated.signal.axes_manager["x"].scale
    for one in (simulated.truth["thickness"], simulated.rare_mask):
        assert (one.axes_manager.navigation_shape, one.axes_manager.signal_shape) == ((7, 5), ())
    assert type(simulated.endmembers) is type(simulated.signal)


def test_truth_cannot_be_exchanged() -> None:
    simulated = fe_l_map((7, 5), n_channels=16)

    with pytest.raises(TypeError):
        simulated.truth["shift"] = simulated.truth["iron"]
    with pytest.raises(AttributeError):
        simulated.dose = 3


def test_repr_names_the_dose_and_the_truth() -> None:
    text = repr(fe_cr_ni_map((7, 5), n_channels=64, dose=40, rare_phase=RarePhase(n_pixels=2)))

    for words in ("EDSTEMSpectrum", "dose: 40", "Fe, Cr, Ni, Nb", "abundances", "rare_mask"):
        assert words in text


def test_importing_the_datasets_loads_neither_hyperspy_signals_nor_torch(python: Callable[..., str]) -> None:
    code = (
        "import sys, hyperspy_specml.datasets; heavy = {'torch', 'dask', 'exspy', 'scipy', 'sklearn'}; "
        "print(heavy & set(sys.modules))"
    )

    assert python(code, search=Path(hyperspy_specml.__file__).parents[1]).strip() == "set()"
