"""Simplex autoencoder: spectra as mixtures of endmembers. B spectra, E channels, P scores, K endmembers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from hyperspy_specml.nn._dense import mlp

# Ratio of the steps of the optimiser in the logarithm of an endmember to those in other weights.
_LOG_SCALE = 4.0
# Number of Gauss-Newton steps to the shift: one is exact for small shifts of smooth spectra.
_SEARCH_STEPS = 3
# Weight of the past in running means over batches.
_DECAY = 0.95
# Smallest intensity that the encoder normalises by, relative to the mean intensity: weaker spectra are mostly
# noise.
_MIN_INTENSITY = 1e-3


class SimplexNetwork(nn.Module):
    """Nonlinear encoder to abundances, linear decoder of non-negative endmembers.

    Scores are whitened (noise of unit variance at the mean intensity) and uncentred. Endmembers sum to one;
    the intensity of a spectrum is the sum of its expected values, here in units of that of the mean spectrum.

    Parameters
    ----------
    endmembers
        (K, E) spectra to start from, positive.
    to_scores
        (E, P): ``scores = spectra @ to_scores``.
    mean
        (E,) mean spectrum, positive.
    scores
        (n, P) scores of some spectra: their mean and standard deviation normalise the encoder's input.
    shot
        Fraction of the noise variance at the mean intensity that is proportional to the intensity: 1 for
        counts, whose intensity is then their sum; 0 for noise of the same variance everywhere.
    ends
        (2, E) first and last channel of the run without gaps that each channel is in.
    shifts
        Whether spectra are shifted along energy, by a number of channels found for each.
    n_hidden, n_layers
        Width and number of the encoder's hidden layers.
    """

    prior: Tensor  # (E,) logarithm of the mean spectrum of sum one
    to_scores: Tensor  # (E, P) of spectra in units of the mean intensity
    centre: Tensor  # (P,)
    scale: Tensor
    ends: Tensor  # (2, E)
    shift_variance: Tensor  # of the shifts in the map, channels squared
    shift_mean: Tensor  # mean of the shifts found in training, which is subtracted: there it is the origin
    shift_prior: Tensor  # mean of the shifts in the map, once another origin is set

    def __init__(
        self,
        endmembers: Tensor,
        to_scores: Tensor,
        mean: Tensor,
        scores: Tensor,
        *,
        shot: float,
        ends: Tensor,
        shifts: bool,
        n_hidden: int,
        n_layers: int,
    ) -> None:
        super().__init__()
        n_scores, k = to_scores.shape[1], len(endmembers)
        self.shot, self.shifts, self.n_hidden, self.n_layers = shot, shifts, n_hidden, n_layers
        self.encode_linear = nn.Linear(n_scores, k)
        self.encode_mlp = mlp(n_scores, k, n_hidden, n_layers)
        self._use_channels(endmembers, mean, to_scores)
        shape = scores / self._rough_intensity(scores)[:, None]
        self.register_buffer("centre", shape.mean(dim=0))
        self.register_buffer("scale", (shape - self.centre).square().mean(dim=0).max().sqrt().clamp_min(1e-30))
        self.register_buffer("ends", ends)
        for name, value in (("variance", 0.1), ("mean", 0.0), ("prior", 0.0)):
            self.register_buffer(f"shift_{name}", torch.tensor(value))

    def endmembers(self) -> Tensor:
        """Return the (K, E) endmembers."""
        return torch.softmax(self.prior + _LOG_SCALE * self.log_ratio, dim=1)

    def encode(self, x: Tensor, fraction: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """Map scores to abundances (B, K), intensities (B,) and shifts in channels (B,).

        Parameters
        ----------
        x
            (B, P), on the scale of the whole data.
        fraction
            Of the counts that the scores were computed from.
        """
        u = self.encoder_input(x)
        abundances = torch.softmax(self.encode_linear(u) + self.encode_mlp(u), dim=1)  # (B, P) -> (B, K)
        mixture = abundances @ self.endmembers()  # (B, K) -> (B, E)
        shift = self._find_shift(x, mixture.detach(), fraction) if self.shifts else torch.zeros_like(x[:, 0])
        seen = (self.shifted(mixture, shift) if self.shifts else mixture) @ self.to_scores  # (B, E) -> (B, P)
        return abundances, self._intensity(x, seen), shift

    def decode(self, abundances: Tensor, intensity: Tensor, shift: Tensor) -> Tensor:
        """Map abundances, intensities and shifts to spectra."""
        mixture = self.total * intensity[:, None] * (abundances @ self.endmembers())  # (B, K) -> (B, E)
        return self.shifted(mixture, shift) if self.shifts else mixture

    def endmember_divergence(self, abundances: Tensor) -> Tensor:
        """Return the mean Kullback-Leibler divergence of the endmembers from their mean, in nats.

        The information of one count about the endmember that it comes from. Endmembers are weighted by their
        mean abundance, so that a penalty on it does not outweigh the few spectra of a rare one.
        """
        usage = abundances.detach().mean(dim=0)  # (K,)
        endmembers = self.endmembers()
        ratio = (endmembers / (usage @ endmembers)).log()  # (K, E); softmax is never quite 0
        return usage @ (endmembers * ratio).sum(dim=1)

    def shifted(self, spectra: Tensor, shift: Tensor) -> Tensor:
        """Shift (B, E) spectra by (B,) channels to higher energy, with linear interpolation.

        Beyond the end of a run of channels the value at its end is repeated.
        """
        return _interpolated(spectra, *self._neighbours(shift))

    @torch.no_grad()
    def decode_transposed(self, weights: Tensor, abundances: Tensor, intensity: Tensor, shift: Tensor) -> Tensor:
        """Return (K, E) sums of (B, E) weights: `decode`, which is linear in the endmembers, transposed."""
        if self.shifts:
            near, far, weight = self._neighbours(shift)
            shifted = torch.zeros_like(weights).scatter_add_(1, near, (1 - weight) * weights)
            weights = shifted.scatter_add_(1, far, weight * weights)
        return (self.total * intensity[:, None] * abundances).T @ weights  # (K, B) @ (B, E)

    @torch.no_grad()
    def set_endmembers(self, endmembers: Tensor) -> None:
        """Set the endmembers to (K, E) positive spectra, normalised to sum one."""
        normalised = endmembers / endmembers.sum(dim=1, keepdim=True)
        self.log_ratio.copy_((normalised.log() - self.prior) / _LOG_SCALE)

    @torch.no_grad()
    def init_encoder(self, weight: Tensor, bias: Tensor) -> None:
        """Make the logarithms of abundances linear in the encoder's input: weight (K, P) and bias (K,)."""
        self.encode_linear.weight.copy_(weight)
        self.encode_linear.bias.copy_(bias)

    @torch.no_grad()
    def on_channels(self, endmembers: Tensor, mean: Tensor, to_scores: Tensor) -> SimplexNetwork:
        """Return the network for the same spectra recorded in other channels, without gaps between them."""
        other = copy.deepcopy(self)
        other._use_channels(endmembers, mean, to_scores)
        other.ends = torch.tensor([[0], [len(mean) - 1]]).expand(2, len(mean)).contiguous()
        return other

    def _use_channels(self, endmembers: Tensor, mean: Tensor, to_scores: Tensor) -> None:
        self.total = float(mean.sum())
        self.register_buffer("prior", (mean / mean.sum()).log())
        # (K, E); weight decay pulls endmembers towards the mean spectrum
        self.log_ratio = nn.Parameter((endmembers.log() - self.prior) / _LOG_SCALE)
        self.register_buffer("to_scores", self.total * to_scores)

    @torch.no_grad()
    def set_origin(self, x: Tensor) -> None:
        """Make the mean shift of some spectra, scores (B, P), the origin of all shifts.

        A shift that was found is that of maximum likelihood, shrunk towards the prior by the ratio of what both
        know of it (Fisher information); the origin is the mean of the shifts before shrinking. Endmembers are
        shifted by it, so that the spectra stay where they are.
        """
        self.shift_mean.zero_()
        abundances, _, shift = self.encode(x)
        mixture, intensity = abundances @ self.endmembers(), self._rough_intensity(x)[:, None]
        change = intensity * (self.shifted(_slope(mixture), shift) @ self.to_scores)  # (B, P)
        information = change.square().sum(dim=1) / (self.shot * intensity[:, 0] + 1 - self.shot)
        kept = information / (information + 1 / self.shift_variance)
        origin = self.shift_prior + (shift - self.shift_prior).sum() / kept.sum().clamp_min(1e-30)
        self.set_endmembers(self.shifted(self.endmembers(), origin.expand(len(self.log_ratio))))
        self.shift_prior.sub_(origin)

    def encoder_input(self, x: Tensor) -> Tensor:
        """Return the encoder's input: scores over intensity, centred and of unit standard deviation."""
        return (x / self._rough_intensity(x)[:, None] - self.centre) / self.scale  # (B, P)

    @torch.no_grad()
    def reorder(self, order: Tensor) -> None:
        """Put the endmembers in another order."""
        last = self.encode_mlp[-1]
        for weights in (self.log_ratio, *self.encode_linear.parameters(), *last.parameters()):
            weights.copy_(weights[order])

    def _neighbours(self, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two (B, E) channels to interpolate between, and the (B, 1) weight of the second."""
        whole = torch.floor(shift)
        channels = torch.arange(self.ends.shape[1], device=shift.device)
        from_ = channels - whole[:, None].long()
        first, last = self.ends
        return from_.clamp(first, last), (from_ - 1).clamp(first, last), (shift - whole)[:, None]

    def _rough_intensity(self, x: Tensor) -> Tensor:
        """Return intensities before the mixture is known: those of multiples of the mean spectrum."""
        mean = self.prior.exp() @ self.to_scores  # (P,)
        return self._intensity(x, mean.expand_as(x)).clamp_min(_MIN_INTENSITY)

    def _intensity(self, x: Tensor, seen: Tensor) -> Tensor:
        """Return the (B,) intensities of scores, given those of mixtures: by sums for counts."""
        # The product of scores of counts with those of the mean spectrum is the sum of the counts.
        along = (self.prior.exp() @ self.to_scores).expand_as(seen) if self.shot == 1 else seen
        size = (seen * along).sum(dim=1)
        return ((x * along).sum(dim=1) / size.clamp_min(1e-30)).clamp_min(0)

    @torch.no_grad()
    def _find_shift(self, x: Tensor, mixture: Tensor, fraction: float) -> Tensor:
        """Return the most probable shift of each spectrum; in training also learn the variance of the shifts.

        Gauss-Newton steps on the squared error in units of the noise, with a normal prior whose variance is
        that of the shifts found plus that of their errors (expectation maximisation).
        """
        slope = _slope(mixture)
        intensity = self._rough_intensity(x)[:, None]
        precision = fraction / (self.shot * intensity[:, 0] + 1 - self.shot)
        shift = self.shift_prior.expand_as(precision)
        limit = mixture.shape[1] / 8
        for _ in range(_SEARCH_STEPS):
            between = self._neighbours(shift)
            residual = x - intensity * (_interpolated(mixture, *between) @ self.to_scores)  # (B, P)
            change = intensity * (_interpolated(slope, *between) @ self.to_scores)
            curvature = precision * change.square().sum(dim=1) + 1 / self.shift_variance
            gradient = precision * (residual * change).sum(dim=1) - (shift - self.shift_prior) / self.shift_variance
            shift = (shift + gradient / curvature).clamp(-limit, limit)
        if self.training:
            found = shift.var(unbiased=False) + (1 / curvature).mean()
            self.shift_variance.mul_(_DECAY).add_((1 - _DECAY) * found)
            self.shift_mean.mul_(_DECAY).add_((1 - _DECAY) * shift.mean())
        return shift - self.shift_mean


def _interpolated(spectra: Tensor, near: Tensor, far: Tensor, weight: Tensor) -> Tensor:
    """Return (B, E) spectra between two channels each; see `SimplexNetwork._neighbours`."""
    here = spectra.gather(1, near)
    return here + weight * (spectra.gather(1, far) - here)


def _slope(spectra: Tensor) -> Tensor:
    """Return the derivative of (B, E) spectra with respect to a shift, per channel."""
    slope = torch.zeros_like(spectra)
    slope[:, 1:-1] = (spectra[:, :-2] - spectra[:, 2:]) / 2
    return slope
