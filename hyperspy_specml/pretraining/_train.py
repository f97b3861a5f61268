"""Objectives: hidden patches from the seen ones, or the parameters that a simulator drew."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hyperspy_specml.lazy import torch
from hyperspy_specml.pretraining._encoder import AT_ONCE, Inputs, Readout, Scale, SpectrumEncoder
from hyperspy_specml.pretraining._options import Masking
from hyperspy_specml.train import Batch, fit, one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyperspy_specml.nn import PatchEncoder
    from hyperspy_specml.pretraining._encoder import PatchShape
    from hyperspy_specml.pretraining._grid import SpectralGrid
    from hyperspy_specml.pretraining._instruments import Instruments
    from hyperspy_specml.run import Run
    from hyperspy_specml.train import History

OBJECTIVES = ("simulated", "masked")
# Logarithm (base 10) of the largest thinning of a recorded spectrum: doses are drawn at random.
_THINNING = 1.0
# Held-out spectra that the score is taken of, at most.
_SCORED = 256
# Masks as they were published.
_PUBLISHED = Masking()
# Spectra of a source, or of a simulator, that their mean is taken of, about.
_COMPARED = 512


@dataclass(frozen=True, eq=False)
class Source:
    """Spectra of one kind on their grid.

    Attributes
    ----------
    grid
        The grid.
    visible
        (n_patches,) bool, the patches that they record.
    rows
        (n, E) float32 counts; of a simulator none.
    counts
        Whether they are counts, which may be thinned.
    """

    grid: SpectralGrid
    visible: np.ndarray
    rows: np.ndarray = field(repr=False)
    counts: bool = True


class Physics(Protocol):
    """Draws spectra with known parameters."""

    @property
    def grid(self) -> SpectralGrid:
        """Of the spectra."""
        ...

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        ...

    @property
    def n_composition(self) -> int:
        """How many of them, the first, say what the sample is made of."""
        ...

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, E) counts, and their (n, n_parameters) parameters, each of about mean 0 and deviation 1."""
        ...

    def pure(self) -> np.ndarray:
        """Return (K, E) noise-free spectra, whose mixtures are drawn on instruments like the middle one."""
        ...


class _Masked:
    """Batches of one source after another; sources of any size count alike."""

    def __init__(
        self, sources: Sequence[Source], like: SpectrumEncoder, size: int, seed: int, device: str,
        instruments: Instruments | None = None, masking: Masking = _PUBLISHED, kept: Sequence[np.ndarray] = (),
    ):  # fmt: skip
        self.rng, self.size, self.sources, self.device = np.random.default_rng(seed), size, sources, device
        self.instruments, self.masking, self.kept = instruments, masking, kept  # kept: indices that are drawn
        self.inputs = [like.inputs(s.grid, s.visible) for s in sources]

    def draw(self) -> Batch:
        k = int(self.rng.integers(len(self.sources)))
        kept = self.kept[k]
        some = kept[self.rng.integers(len(kept), size=min(self.size, max(2, len(kept))))]
        return self.batch(k, self.sources[k].rows[some])

    def batch(self, k: int, rows: np.ndarray) -> Batch:
        if self.sources[k].counts:
            thin = 10 ** (-_THINNING * self.rng.random((len(rows), 1)))
            rows = (
                self.rng.poisson(np.maximum(rows, 0) * thin)
                if (rows % 1).any()
                else self.rng.binomial(rows.astype(np.int64), thin)
            )
        if self.instruments is not None:
            rows = self.instruments.applied(rows, self.rng, counts=self.sources[k].counts)
        counts = torch.from_numpy(rows.astype(np.float32)).to(self.device)
        values, place, dose = self.inputs[k](counts)
        n = values.shape[1]
        order = torch.from_numpy(self.rng.random((len(rows), n)).argsort(axis=1)).to(self.device)
        seen = order[:, : max(1, min(n - 1, round((1 - self.masking.hidden) * n)))]
        weight = torch.ones(len(rows), n, 1, device=self.device)
        if self.masking.scored == "hidden":
            weight = weight.scatter(1, seen[..., None], 0.0)
        target = self.inputs[k].patches(counts) if self.masking.error == "counts" else values
        return Batch(values, target, weight, beside={"place": place, "dose": dose, "seen": seen, "source": k})

    def error(self, network: Any, batch: Batch, step: int = 0) -> dict[str, torch.Tensor]:
        """Return the mean squared error of the values that are scored, or the mean deviance of their counts."""
        beside = dict(batch.beside)
        inputs = self.inputs[beside.pop("source")]
        found, weight = network(batch.input, **beside), batch.weight
        assert isinstance(weight, torch.Tensor)
        if self.masking.error == "counts":
            expected = inputs.expected(found, batch.beside["dose"])
            counts = batch.target
            apart = 2 * (expected - counts + torch.xlogy(counts, counts) - counts * expected.log())
        else:
            apart = (found - batch.target) ** 2
        n = (weight.sum() * batch.target.shape[-1]).clamp_min(1.0)
        return {self.masking.scored: (weight * apart).sum() / n}


class _Simulated:
    """Batches of a simulator."""

    def __init__(
        self, physics: Sequence[Physics], like: SpectrumEncoder, size: int, seed: int, device: str,
        instruments: Instruments | None = None,
    ):  # fmt: skip
        self.rng, self.size, self.physics, self.device = np.random.default_rng(seed), size, physics, device
        self.instruments = instruments
        self.inputs = [like.inputs(p.grid, _all_patches(p.grid, like.shape)) for p in physics]
        self.starts = np.concatenate([[0], np.cumsum([p.n_parameters for p in physics])])

    def draw(self) -> Batch:
        k = int(self.rng.integers(len(self.physics)))
        counts, truth = self.physics[k].draw(self.size, self.rng)
        if self.instruments is not None:
            counts = self.instruments.applied(counts, self.rng)
        values, place, dose = self.inputs[k](torch.from_numpy(counts.astype(np.float32)).to(self.device))
        target = torch.from_numpy(truth.astype(np.float32)).to(self.device)
        columns = slice(int(self.starts[k]), int(self.starts[k + 1]))
        return Batch(values, target, beside={"place": place, "dose": dose, "columns": columns})


def _parameter_error(network: Any, batch: Batch, step: int = 0) -> dict[str, torch.Tensor]:
    """Return the mean squared error of the parameters."""
    beside = dict(batch.beside)
    columns = beside.pop("columns")
    found = network(batch.input, **beside)[:, columns]
    return {"parameters": ((found - batch.target) ** 2).mean()}


def train_encoder(
    shape: PatchShape, normalisation: str, run: Run, *, sources: Sequence[Source] = (), physics: Sequence[Physics] = (),
    start: SpectrumEncoder | None = None, instruments: Instruments | None = None, masking: Masking = _PUBLISHED,
    keep: Callable[[SpectrumEncoder], object] | None = None,
) -> tuple[SpectrumEncoder, History]:  # fmt: skip
    """Train an encoder, with hidden patches of recorded spectra, or on a simulator where there is one.

    Parameters
    ----------
    shape, normalisation
        Of the encoder.
    run
        Settings, all set, seed, device and progress.
    sources
        Recorded spectra.
    physics
        Simulators; then `sources` only give their grids.
    start
        An encoder to go on from, with its grids, and with its head or decoder where the objective is the same.
    instruments
        That spectra are moved to in training and in its score.
    masking
        Of hidden patches.
    keep
        Gets the encoder whenever its held-out score is the best so far; not what it went on from.

    Returns
    -------
    the encoder and how the training went, scored on spectra that were held out
    """
    torch.manual_seed(run.seed)
    encoder = shape.network()
    if start is not None:
        encoder.load_state_dict(start.network.state_dict())
    known = {} if start is None else dict(zip(start.grids, start.scales, strict=True))
    grids = tuple(dict.fromkeys([*([p.grid for p in physics] or [s.grid for s in sources]), *known]))
    scales = tuple(known.get(g) or _scale(g, shape, normalisation, sources, physics, run.seed) for g in grids)
    like = SpectrumEncoder(encoder, shape, grids, scales, normalisation, pure=_pure(grids, physics, start))
    size = int(run.config.batch_size or 128)
    batches: Any
    held: list[Batch]
    if physics:
        network = _with_head(like, sum(p.n_parameters for p in physics), start).to(run.device)
        loss, batches = (_parameter_error, _Simulated(physics, like, size, run.seed, run.device, instruments))
        drawn = _Simulated(physics, like, _SCORED, run.seed + 1, run.device, instruments)
        held = [drawn.draw() for _ in range(2 * len(physics))]
    else:
        network = _with_decoder(encoder, start).to(run.device)
        held_out = [np.arange(len(s.rows)) % 10 == 0 for s in sources]
        kept = [np.flatnonzero(~one) for one in held_out]
        batches = _Masked(sources, like, size, run.seed, run.device, instruments, masking, kept)
        judge = _Masked(sources, like, _SCORED, run.seed + 1, run.device, instruments, masking)
        loss = batches.error
        held = [judge.batch(k, s.rows[np.flatnonzero(held_out[k])[:_SCORED]]) for k, s in enumerate(sources)]

    best, first = np.inf, start is not None  # what it went on from is there already

    def score(trained: Any) -> float:
        nonlocal best, first
        trained.eval()
        with torch.no_grad():
            found = float(np.mean([sum(part.item() for part in loss(trained, batch).values()) for batch in held]))
        if found < best:
            best = found
            if keep is not None and not first:
                keep(_trained(like, copy.deepcopy(trained), physics))
        first = False
        return found

    with one_thread(run.device):
        history = fit(network, batches, loss, run, score=score, at_once=AT_ONCE if run.device == "cpu" else None)
    return _trained(like, network, physics), history


def _with_head(like: SpectrumEncoder, n_parameters: int, start: SpectrumEncoder | None) -> Any:
    """Return the network with a head of parameters: that of the encoder that is gone on from, if it reads the same."""
    from hyperspy_specml.nn import WithHead

    network = WithHead(like.network, n_parameters)
    if start is not None and start.readout is not None and _alike(like, start, n_parameters):
        network.head.weight.data = torch.from_numpy(start.readout.weights.T.copy())
        network.head.bias.data = torch.from_numpy(start.readout.constant.copy())
    return network


def _with_decoder(encoder: PatchEncoder, start: SpectrumEncoder | None) -> Any:
    """Return the network with a decoder of hidden patches: that of the encoder that is gone on from, if it has one."""
    from hyperspy_specml.nn import MaskedAutoencoder

    network = MaskedAutoencoder(encoder)
    if start is not None and start.decoder:
        network.decoder.load_state_dict({name: torch.from_numpy(value) for name, value in start.decoder.items()})
    return network


def _trained(like: SpectrumEncoder, network: Any, physics: Sequence[Physics]) -> SpectrumEncoder:
    """Return the encoder within a network, with what its head reads off the latents, or with its decoder."""
    network = network.cpu().eval()
    if not hasattr(network, "head"):
        decoder = {name: value.numpy() for name, value in network.decoder.state_dict().items()}
        return replace(like, network=network.encoder, decoder=decoder)
    weights, constant = network.head.weight.detach().numpy().T.copy(), network.head.bias.detach().numpy().copy()
    composition = [np.arange(one.n_parameters) < one.n_composition for one in physics]
    return replace(like, network=network.encoder, readout=Readout(weights, constant, np.concatenate(composition)))


def _pure(
    grids: Sequence[SpectralGrid], physics: Sequence[Physics], start: SpectrumEncoder | None
) -> tuple[np.ndarray, ...]:
    """Return the spectra that are mixed on each grid, or that were in the training before; () where there are none."""
    found = []
    for grid in grids:
        own = [one.pure() for one in physics if one.grid == grid]
        known = start.pure_on(grid) if start is not None and grid in start.grids else np.empty((0, grid.size))
        found.append(np.concatenate(own or [known]).astype(np.float32))
    return tuple(found) if any(map(len, found)) else ()


def _alike(one: SpectrumEncoder, other: SpectrumEncoder, n_parameters: int) -> bool:
    """Return whether two encoders read the same parameters: those of mixtures of the same spectra."""
    if other.readout is None or len(other.readout.constant) != n_parameters or one.grids != other.grids:
        return False
    return all(map(np.array_equal, one.pure, other.pure))


def _all_patches(grid: SpectralGrid, shape: PatchShape) -> np.ndarray:
    return np.ones(-(-grid.size // shape.patch), bool)


def _scale(
    grid: SpectralGrid,
    shape: PatchShape,
    normalisation: str,
    sources: Sequence[Source],
    physics: Sequence[Physics],
    seed: int,
) -> Scale:
    """Return what values on a grid are compared with: those of some spectra that are trained with."""
    rng = np.random.default_rng(seed)
    if physics:
        rows = [one.draw(_COMPARED, rng)[0] for one in physics if one.grid == grid]
    else:
        rows = [one.rows[:: -(-len(one.rows) // _COMPARED)] for one in sources if one.grid == grid]
    inputs = Inputs(shape.patch, normalisation, grid, _all_patches(grid, shape))
    counts = torch.from_numpy(np.concatenate(rows).astype(np.float32))
    return Scale.of(inputs.normalised(counts)[0].numpy())
