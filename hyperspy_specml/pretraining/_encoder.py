"""The encoder: spectra in, vectors out, whatever grid they were recorded on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.exceptions import EnergyAxisMismatchError, ModelFileError, OptionError
from hyperspy_specml.lazy import torch
from hyperspy_specml.models import pack, unpack
from hyperspy_specml.pretraining._grid import SpectralGrid
from hyperspy_specml.train import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperspy_specml.nn import PatchEncoder

NORMALISATIONS = ("square root", "total", "per spectrum")
# Spectra encoded at a time: what is computed of so few stays in the cache of a core, which is a fifth faster. Another
# device is the faster the more there are.
AT_ONCE, _AT_ONCE_ELSEWHERE = 32, 1024
# Spectra laid on the grid at a time.
_LAID = 1024
# Smallest share of a channel that a network may expect, part of the mean share.
_LEAST_SHARE = 1e-3
# Part of a grid that the data must record, or part of the data that must lie on it.
_LEAST_OVERLAP = 0.3
_VERSION = 5
# Largest size of a network.
_LARGEST = 4096
# In files, the names of the arrays with what values are compared with, and of spectra that were mixed.
_CENTRE, _PURE = "centre of grid {}", "pure spectra of grid {}"
# Those of the decoder begin so.
_DECODER = "decoder."
# And those that read parameters off the latents.
_READOUT = ("readout weights", "readout constant", "readout of composition")


@dataclass(frozen=True)
class PatchShape:
    """Sizes of the network of an encoder.

    Attributes
    ----------
    patch
        Channels in a patch.
    width, depth, heads
        Of the transformer; the width is a multiple of the heads.

    Raises
    ------
    OptionError
        A size is no whole number from 1 to 4096, or the heads do not share the width.
    """

    patch: int = 32
    width: int = 128
    depth: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        """Refuse sizes that no network has."""
        for size in fields(self):
            value = getattr(self, size.name)
            if not isinstance(value, Integral) or not 1 <= int(value) <= _LARGEST:
                raise OptionError(
                    f"PatchShape({size.name}={value!r}) needs a whole number from 1 to {_LARGEST}, "
                    f"e.g. {size.name}={size.default}."
                )
            object.__setattr__(self, size.name, int(value))  # as files hold it
        if self.width % self.heads:
            raise OptionError(
                f"PatchShape(width={self.width}, heads={self.heads}) needs a width that the heads share evenly, "
                f"e.g. width={-(-self.width // self.heads) * self.heads}."
            )

    def network(self) -> PatchEncoder:
        """Return a new network of these sizes."""
        from hyperspy_specml.nn import PatchEncoder

        return PatchEncoder(self.patch, self.width, self.depth, self.heads)


@dataclass(frozen=True, eq=False)
class Scale:
    """What normalised values of a kind of spectra are compared with, so that the network sees how they differ.

    Attributes
    ----------
    centre
        (E,) their mean on the grid.
    spread
        Root mean square of what they differ by from it, all channels together.
    """

    centre: np.ndarray
    spread: float

    @classmethod
    def of(cls, values: np.ndarray) -> Scale:
        """Return that of (n, E) normalised values."""
        centre = values.mean(axis=0)
        return cls(centre.astype(np.float32), max(float(np.sqrt(np.square(values - centre).mean())), 1e-6))


@dataclass(frozen=True, eq=False)
class Readout:
    """What a network learnt to read off its latents: the parameters of simulated spectra. D latents, P parameters.

    Attributes
    ----------
    weights, constant
        (D, P) and (P,).
    composition
        (P,) bool, those that say what the sample is made of; the others are background, thickness, shift.
    """

    weights: np.ndarray
    constant: np.ndarray
    composition: np.ndarray

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """Return the (n, P) parameters of (n, D) latents."""
        return latents @ self.weights + self.constant


@dataclass(frozen=True, eq=False)
class SpectrumEncoder:
    """A trained network and how spectra are prepared for it. D outputs.

    Attributes
    ----------
    network
        Of patches.
    shape
        Its sizes.
    grids, scales
        On which spectra are laid, one for each kind of them, and what their values are compared with.
    normalisation
        "square root" of the share of each channel, "total" (the share), "per spectrum" (mean 0, deviation 1).
    about
        How it was trained.
    readout
        Parameters of simulated spectra, where it was trained on them.
    pure
        (K, E) spectra on each grid whose mixtures these were; none of grids that nothing was simulated on.
    decoder
        Weights of what predicts hidden patches, where it was trained on them: to go on with.
    """

    network: PatchEncoder = field(repr=False)
    shape: PatchShape
    grids: tuple[SpectralGrid, ...]
    scales: tuple[Scale, ...]
    normalisation: str = "square root"
    about: dict[str, Any] = field(default_factory=dict)
    readout: Readout | None = field(default=None, repr=False)
    pure: tuple[np.ndarray, ...] = field(default=(), repr=False)
    decoder: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def pure_on(self, grid: SpectralGrid) -> np.ndarray:
        """Return the (K, E) spectra that were mixed on a grid; K is 0 where none were."""
        return self.pure[self.grids.index(grid)] if self.pure else np.empty((0, grid.size), np.float32)

    def grid_for(self, units: str, centres: np.ndarray, *, among: Sequence[SpectralGrid] | None = None) -> SpectralGrid:
        """Return the grid that spectra are laid on.

        Parameters
        ----------
        units, centres
            Of the data's energy axis.
        among
            Grids to choose from; by default all.

        Raises
        ------
        EnergyAxisMismatchError
            No grid has these units and energies.
        """
        allowed = self.grids if among is None else among
        fitting = [grid for grid in allowed if grid.units == units and grid.overlap(centres) >= _LEAST_OVERLAP]
        if not fitting:
            known = "; ".join(f"{g.first:g} to {g.centres[-1]:g} {g.units}" for g in allowed)
            what, repair = ("encoder knows", "Pretrain one with such spectra, specml.pretrain([s, ...])")
            if among is not None:
                what, repair = "labelled spectra cover", "Label some of these spectra, encoder.fine_tune(s, labels)"
            why = f"none of these is in {units or 'channels without a unit'}"
            if any(grid.units == units for grid in allowed):
                why = f"less than {_LEAST_OVERLAP:.0%} of either lies in the other, or channels are of another size"
            raise EnergyAxisMismatchError(
                f"the {what} {known}, but the data cover {centres.min():g} to {centres.max():g} {units}: {why}. "
                f"{repair}."
            )
        step = abs(centres[-1] - centres[0]) / max(1, len(centres) - 1)
        return max(fitting, key=lambda grid: (grid.overlap(centres), -abs(np.log(grid.step / max(step, 1e-30)))))

    def visible(self, grid: SpectralGrid, centres: np.ndarray) -> np.ndarray:
        """Return the (n_patches,) bool patches of a grid that channels with these centres record.

        Raises
        ------
        EnergyAxisMismatchError
            There is none.
        """
        found = grid.covered(centres, self.shape.patch)
        if not found.any():
            raise EnergyAxisMismatchError(
                f"the data cover {centres.min():g} to {centres.max():g} {grid.units}, not half of one patch of the "
                f"encoder, of {grid.step * self.shape.patch:g} {grid.units}. Pretrain one with such spectra and short "
                "patches, specml.pretrain([s, ...], shape=specml.PatchShape(patch=4))."
            )
        return found

    def inputs(self, grid: SpectralGrid, visible: np.ndarray) -> Inputs:
        """Return how spectra are shown to the network.

        Parameters
        ----------
        grid, visible
            One of the grids, and the (n_patches,) bool patches that the data record.
        """
        scale, always_all = self.scales[self.grids.index(grid)], self.readout is not None  # of simulated spectra
        return Inputs(self.shape.patch, self.normalisation, grid, visible, scale, filled=always_all)

    def encode(self, rows: np.ndarray, units: str, centres: np.ndarray) -> np.ndarray:
        """Map (n, E) spectra on channels with these centres to (n, D) vectors, float32."""
        grid = self.grid_for(units, centres)
        inputs, matrix = self.inputs(grid, self.visible(grid, centres)), grid.matrix(centres)
        parts = [
            self.latents(rows[start : start + _LAID].astype(np.float32) @ matrix, inputs)
            for start in range(0, len(rows), _LAID)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.shape.width), np.float32)

    def latents(self, laid: np.ndarray, inputs: Inputs) -> np.ndarray:
        """Map (n, E) spectra on a grid to (n, D) vectors, float32.

        Parameters
        ----------
        laid
            The spectra.
        inputs
            How they are shown to the network.
        """
        found = np.empty((len(laid), self.shape.width), np.float32)
        device = next(self.network.parameters()).device
        at_once = AT_ONCE if device.type == "cpu" else _AT_ONCE_ELSEWHERE
        self.network.eval()
        with torch.inference_mode(), one_thread(device.type):
            for start in range(0, len(laid), at_once):
                counts = torch.from_numpy(laid[start : start + at_once].astype(np.float32)).to(device)
                found[start : start + at_once] = self.network(*inputs(counts)).cpu().numpy()
        return found

    @property
    def fingerprint(self) -> str:
        """Of all that its latents follow from: adapters fit the encoder that they were trained beside, and no other."""
        spreads = [scale.spread for scale in self.scales]
        digest = hashlib.sha256(repr((self.shape, self.grids, self.normalisation, spreads)).encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        for scale in self.scales:
            digest.update(scale.centre.tobytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        sizes = {name: getattr(self.shape, name) for name in ("patch", "width", "depth", "heads")}
        grids = [[g.units, g.first, g.step, g.size] for g in self.grids]
        description = {"encoder": _VERSION, "shape": sizes, "grids": grids, "normalisation": self.normalisation}
        arrays = {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}
        arrays |= {_CENTRE.format(k): scale.centre for k, scale in enumerate(self.scales)}
        arrays |= {_PURE.format(k): spectra for k, spectra in enumerate(self.pure)}
        arrays |= {_DECODER + name: value for name, value in self.decoder.items()}
        if self.readout is not None:
            read = self.readout
            arrays |= dict(zip(_READOUT, (read.weights, read.constant, read.composition.astype(np.uint8)), strict=True))
        return pack(description | {"spreads": [scale.spread for scale in self.scales], "about": self.about}, arrays)

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> SpectrumEncoder:
        """Return the encoder in a file.

        Raises
        ------
        ModelFileError
            It holds something else, or is damaged.
        """
        return cls.from_parts(*unpack(content, name), name=name)

    @classmethod
    def from_parts(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray], *, name: str) -> SpectrumEncoder:
        """Return the encoder of the parts of a file.

        Raises
        ------
        ModelFileError
            They do not make up one.
        """
        if "predictor" in plain:
            raise ModelFileError(f"{name}: the file holds a predictor. Read it by specml.Predictor.load({name!r}).")
        try:
            if plain["encoder"] not in (2, 3, 4, _VERSION) or plain["normalisation"] not in NORMALISATIONS:
                raise ValueError(f"version {plain['encoder']!r}")
            sizes = {key: int(value) for key, value in plain["shape"].items()}
            network, arrays = PatchShape(**sizes).network(), dict(arrays)
            centres = [arrays.pop(_CENTRE.format(k)) for k in range(len(plain["grids"]))]
            names = [_PURE.format(k) for k in range(len(centres))]
            pure = tuple(arrays.pop(name) for name in names if name in arrays)
            read = _readout(arrays)
            names = [name for name in arrays if name.startswith(_DECODER)]
            decoder = {name.removeprefix(_DECODER): arrays.pop(name) for name in names}
            network.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()})
            grids = tuple(SpectralGrid(str(u), float(f), float(s), int(n)) for u, f, s, n in plain["grids"])
            scales = tuple(Scale(c, float(s)) for c, s in zip(centres, plain["spreads"], strict=True))
            if any(scale.centre.shape != (grid.size,) for scale, grid in zip(scales, grids, strict=True)):
                raise ValueError("means of other channels than the grid's")
            if pure and [one.shape[1:] for one in pure] != [(grid.size,) for grid in grids]:
                raise ValueError("pure spectra of other channels than the grid's")
            if read and not read.constant.shape == read.composition.shape == read.weights.shape[1:]:
                raise ValueError("a readout of parameters of other numbers")
            if read and len(read.weights) != sizes["width"]:
                raise ValueError("a readout of other latents")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFileError(f"{name}: the file holds no encoder ({error!r:.120}). See specml.pretrain.") from error
        about, shape = dict(plain["about"]), PatchShape(**sizes)
        return cls(network.eval(), shape, grids, scales, str(plain["normalisation"]), about, read, pure, decoder)


def _readout(arrays: dict[str, np.ndarray]) -> Readout | None:
    """Take the readout out of the arrays of a file, where it has one."""
    weights, constant, composition = (arrays.pop(name, None) for name in _READOUT)
    if weights is None or constant is None:
        return None
    every = np.ones(constant.shape, bool)  # earlier files do not say
    return Readout(weights, constant, every if composition is None else composition.astype(bool))


@dataclass(frozen=True)
class Inputs:
    """From counts on a grid to what the network is given.

    Attributes
    ----------
    patch, normalisation
        Of the encoder.
    grid
        That the counts lie on.
    visible
        (n_patches,) bool, the patches that are shown.
    scale
        What values are compared with; None where that is not known yet.
    filled
        Whether patches that are not recorded are shown as those of the mean spectrum, and not left out: to an encoder
        that has always seen all patches. The latents of spectra that are cut off are then like those of whole ones.
    """

    patch: int
    normalisation: str
    grid: SpectralGrid
    visible: np.ndarray
    scale: Scale | None = None
    filled: bool = False

    def __call__(self, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map (B, E) counts to (B, N, patch) values, (1, N, 128) codes and (B,) logarithms of the dose."""
        values, dose = self.values(counts)
        return values, self.places(counts.device)[None], dose

    def values(self, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, E) counts to the (B, N, patch) values of the patches that are shown, and (B,) log doses."""
        values, dose = self.normalised(counts)
        if self.scale is not None:
            values = (values - torch.from_numpy(self.scale.centre).to(counts.device)) / self.scale.spread
        return self.patches(values), dose

    def patches(self, values: torch.Tensor) -> torch.Tensor:
        """Map (B, E) values to those of the patches that are shown, (B, N, patch)."""
        padded = torch.nn.functional.pad(values, (0, -values.shape[1] % self.patch)).unflatten(1, (-1, self.patch))
        if self.filled:
            return padded * torch.from_numpy(self.visible).to(values.device)[:, None]
        return padded[:, torch.from_numpy(np.flatnonzero(self.visible)).to(values.device)]

    def expected(self, values: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        """Map (B, N, patch) values and (B,) logarithms of the dose to the counts that such values mean, above 0."""
        assert self.scale is not None
        centre = self.patches(torch.from_numpy(self.scale.centre).to(values.device)[None])
        found = values * self.scale.spread + centre
        share = found**2 if self.normalisation == "square root" else torch.nn.functional.softplus(found, beta=100)
        total = 10 ** (3 * dose) - 1
        return (share + _LEAST_SHARE) * (total / (self._expected_part() * self.grid.size))[:, None, None]

    def normalised(self, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, E) counts to (B, E) values of like size, and (B,) logarithms of the dose."""
        total = counts.abs().sum(dim=1, keepdim=True).clamp_min(1e-30)
        share = counts * (self._expected_part() * counts.shape[1] / total)
        if self.normalisation == "square root":
            share = share.clamp_min(0).sqrt()
        elif self.normalisation == "per spectrum":
            share = (share - share.mean(dim=1, keepdim=True)) / share.std(dim=1, keepdim=True).clamp_min(1e-6)
        return share, torch.log10(total[:, 0] + 1) / 3

    def _expected_part(self) -> float:
        """Return the part of the counts that spectra of the training have in the patches that are shown."""
        if self.scale is None or self.normalisation == "per spectrum" or self.visible.all():
            return 1.0
        mean = np.maximum(self.scale.centre, 0) ** (2 if self.normalisation == "square root" else 1)
        shown = np.repeat(self.visible, self.patch)[: len(mean)]
        return float(mean[shown].sum() / max(float(mean.sum()), 1e-30))

    def places(self, device: torch.device | str) -> torch.Tensor:
        """Return the (N, 128) codes of the energies and widths of the patches that are shown."""
        from hyperspy_specml.nn import energy_code

        where = torch.from_numpy(self.grid.places(self.patch)[self.visible | self.filled]).float().to(device)
        return energy_code(where).flatten(1)
