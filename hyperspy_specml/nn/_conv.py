"""Convolutions over the channels of compressed spectra. B spectra, P scores on a principal basis, K latents.

Scores stand for spectra: the vectors of the basis, at N positions along the energy axis, turn P scores into a whitened
spectrum that has as much noise as P numbers have, and such a spectrum back into P scores. So the work in each batch,
and the file, know nothing of the number of channels. The first and the last convolution are linear: their filters
pass over the P vectors once, and not over each of the B spectra.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hyperspy_specml.nn._dense import PrincipalNetwork, zeroed

N_POSITIONS = 256  # along the energy axis: neighbouring channels are summed, or one is taken several times
_ENDS = 16  # positions after all poolings
_ROWS = 4096  # spectra that pass at once where nothing is learnt: some 10 MB a layer


class ConvNetwork(PrincipalNetwork):
    """Linear autoencoder plus corrections by convolutions along energy, which start at zero.

    The encoder sees, beside the deviation of a spectrum from the mean spectrum, the mean spectrum itself: a peak that
    moves is a peak, and not only a difference of two. An untrained network *is* PCA of rank K.

    Parameters
    ----------
    n_scores
        Scores P per spectrum.
    n_latent
        Latents K.
    n_filters
        Filters F before the first pooling; twice as many before the second.
    n_hidden
        Width of the dense layer between the latents and the filters.
    """

    vectors: Tensor  # (P, N) whitened spectra that scores of one stand for
    mean: Tensor  # (N,) whitened spectrum that scores of zero stand for, of mean square one

    def __init__(self, n_scores: int, n_latent: int, n_filters: int, n_hidden: int) -> None:
        super().__init__(n_scores, n_latent)
        self.register_buffer("vectors", torch.zeros(n_scores, N_POSITIONS))
        self.register_buffer("mean", torch.zeros(N_POSITIONS))
        self.encode_conv = ConvEncoder(n_latent, n_filters, n_hidden)
        self.decode_conv = ConvDecoder(n_latent, n_filters, n_hidden)

    @torch.no_grad()
    def look_at(self, vectors: Tensor, mean: Tensor) -> None:
        """Say what scores stand for.

        Parameters
        ----------
        vectors
            (P, E) whitened spectra of the scores, orthonormal, channels in the order of their energies.
        mean
            (E,) whitened spectrum that scores of zero stand for.
        """
        onto = onto_positions(vectors.shape[1]).to(vectors)
        self.vectors.copy_(vectors @ onto)  # (P, E) -> (P, N)
        at = mean @ onto
        self.mean.copy_(at / at.square().mean().sqrt().clamp_min(torch.finfo(at.dtype).tiny))

    def encode_correction(self, x: Tensor) -> Tensor:
        """Map scores to what is added to the latents."""
        size = math.sqrt(N_POSITIONS)  # then values at single positions are about as large as the scores
        return torch.cat([self.encode_conv(some, size * self.vectors, self.mean) for some in _slabs(x)])

    def decode_correction(self, z: Tensor) -> Tensor:
        """Map latents to what is added to the scores."""
        return torch.cat([self.decode_conv(some, self.vectors / math.sqrt(_ENDS)) for some in _slabs(z)])


class ConvEncoder(nn.Module):
    """Two convolutions with pooling, and two dense layers. N positions, F filters.

    Parameters
    ----------
    n_latent, n_filters, n_hidden
        See `ConvNetwork`.
    """

    def __init__(self, n_latent: int, n_filters: int, n_hidden: int) -> None:
        super().__init__()
        self.wide = nn.Conv1d(1, n_filters, 12, stride=4, padding=4, bias=False)
        self.of_mean = nn.Conv1d(1, n_filters, 12, stride=4, padding=4)
        self.narrow = nn.Conv1d(n_filters, 2 * n_filters, 5, padding="same")
        self.hidden = nn.Linear(2 * n_filters * _ENDS, n_hidden)
        self.last = zeroed(nn.Linear(n_hidden, n_latent))
        self.bend = nn.GELU()

    def forward(self, x: Tensor, vectors: Tensor, mean: Tensor) -> Tensor:
        """Map scores (B, P) of vectors (P, N), deviations from a mean spectrum (N,), to (B, K)."""
        filtered = self.wide(vectors[:, None])  # (P, F, N / 4)
        seen = (x @ filtered.flatten(1)).unflatten(1, filtered.shape[1:]) + self.of_mean(mean[None])  # (B, F, N / 4)
        seen = _pooled(self.bend(seen))  # (B, F, N / 8)
        seen = _pooled(self.bend(self.narrow(seen)))  # (B, 2 F, N / 16)
        return self.last(self.bend(self.hidden(seen.flatten(1))))


class ConvDecoder(nn.Module):
    """Two dense layers, and two convolutions of what is spread over more positions before.

    Parameters
    ----------
    n_latent, n_filters, n_hidden
        See `ConvNetwork`.
    """

    def __init__(self, n_latent: int, n_filters: int, n_hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_latent, n_hidden)
        self.hidden = nn.Linear(n_hidden, 2 * n_filters * _ENDS)
        self.narrow = nn.Conv1d(2 * n_filters, n_filters, 5, padding="same")
        self.wide = zeroed(
            nn.Conv1d(1, n_filters, 16, stride=8, padding=4, bias=False)
        )  # what it sees is what it draws
        self.spread, self.bend = nn.Upsample(scale_factor=2), nn.GELU()

    def forward(self, z: Tensor, vectors: Tensor) -> Tensor:
        """Map latents (B, K) to the scores (B, P), on vectors (P, N), of spectra that filters are added up to."""
        made = self.bend(self.hidden(self.bend(self.first(z))))
        made = self.spread(made.unflatten(1, (-1, _ENDS)))  # (B, 2 F, N / 8)
        made = self.bend(self.narrow(made))  # (B, F, N / 8)
        return made.flatten(1) @ self.wide(vectors[:, None]).flatten(1).T


def onto_positions(n_channels: int) -> Tensor:
    """Return the (E, N) share of each channel at each position: where white noise is, it stays of variance one.

    Parameters
    ----------
    n_channels
        E.
    """
    edges = torch.linspace(0, n_channels, N_POSITIONS + 1, dtype=torch.float64)
    channel = torch.arange(n_channels, dtype=torch.float64)[:, None]
    shared = torch.minimum(edges[1:], channel + 1) - torch.maximum(edges[:-1], channel)
    return shared.clamp_min(0) / math.sqrt(n_channels / N_POSITIONS)


def _slabs(rows: Tensor) -> tuple[Tensor, ...]:
    return (rows,) if torch.is_grad_enabled() else rows.split(_ROWS)


def _pooled(values: Tensor) -> Tensor:
    """Return the means of two neighbours each; several times as fast as a layer that pools."""
    return 0.5 * (values[..., ::2] + values[..., 1::2])
