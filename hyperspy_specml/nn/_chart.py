"""Other coordinates for the latents of a network, and back. B spectra, K latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STEPS = 4  # of fourth order along the flow: there and back again within 1e-4 standard deviations
_RADIUS = 6.0  # standard deviations from which the map comes back to the identity


class Chart(nn.Module):
    """Smooth map of K latents that has an inverse: the flow, from time 0 to 1, of a quadratic velocity field.

    Latents are whitened first. Far from the spectra that it was fitted to, the field falls off, so spectra that
    are unlike them keep their place. Untrained, nothing but the whitening is left.

    Parameters
    ----------
    n_latent
        Latents K.
    """

    origin: Tensor  # (K,) mean of the latents
    axes: Tensor  # (K, K) that make their covariance the identity

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(n_latent))
        self.register_buffer("axes", torch.eye(n_latent))
        self.coefficients = nn.Parameter(torch.zeros(n_latent, n_latent * (n_latent + 1) // 2))

    def forward(self, z: Tensor) -> Tensor:
        """Map latents (B, K) to the new coordinates."""
        return self.flow(self.whitened(z)[:, :, None])[:, :, 0]

    def inverse(self, w: Tensor) -> Tensor:
        """Map new coordinates (B, K) to latents."""
        u = self.flow(w[:, :, None], duration=-1.0)[:, :, 0]
        return torch.linalg.solve(self.axes, u.T).T + self.origin

    def whitened(self, z: Tensor) -> Tensor:
        """Return latents of mean 0 and unit covariance."""
        return (z - self.origin) @ self.axes.T

    def flow(self, u: Tensor, *, duration: float = 1.0) -> Tensor:
        """Move whitened latents along the field, by steps of Runge and Kutta.

        Parameters
        ----------
        u
            (B, K, 1 + n): points, and tangents at them, which move along.
        duration
            -1 moves them back.
        """
        h = duration / _STEPS
        for _ in range(_STEPS):
            first = self._speed(u)
            second = self._speed(u + h / 2 * first)
            third = self._speed(u + h / 2 * second)
            last = self._speed(u + h * third)
            u = u + h / 6 * (first + 2 * second + 2 * third + last)
        return u

    def _speed(self, u: Tensor) -> Tensor:
        """Return the velocities (B, K, 1 + n) of points and tangents."""
        point, tangents = u[:, :, :1], u[:, :, 1:]
        one, other = torch.triu_indices(u.shape[1], u.shape[1], device=u.device)
        size = _RADIUS**2 + point.square().sum(dim=1, keepdim=True)  # (B, 1, 1)
        damping = (size / _RADIUS**2) ** -1.5
        speed = damping * (self.coefficients @ (point[:, one] * point[:, other]))  # (B, M, 1) -> (B, K, 1)
        product = point[:, one] * tangents[:, other] + point[:, other] * tangents[:, one]  # (B, M, n)
        along = (point * tangents).sum(dim=1, keepdim=True)  # (B, 1, n)
        return torch.cat([speed, damping * (self.coefficients @ product) - 3 * speed * along / size], dim=2)


class Charted(nn.Module):
    """A network that encodes to, and decodes from, the coordinates of a chart.

    Parameters
    ----------
    network
        Has ``encode`` (B, P) -> (B, K) and ``decode`` (B, K) -> (B, P).
    chart
        Of its latents.
    """

    def __init__(self, network: nn.Module, chart: Chart) -> None:
        super().__init__()
        self.network, self.chart = network, chart

    def encode(self, x: Tensor) -> Tensor:
        """Map scores to coordinates."""
        return self.chart(self.network.encode(x))  # type: ignore[operator]  # (B, P) -> (B, K)

    def decode(self, w: Tensor) -> Tensor:
        """Map coordinates to scores."""
        return self.network.decode(self.chart.inverse(w))  # type: ignore[operator]  # (B, K) -> (B, P)
