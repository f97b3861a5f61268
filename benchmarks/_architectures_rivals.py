"""The textbook's variational autoencoder, of another package where it is installed: squared error, values in [0, 1].

References
----------
C. Chadebec, L. J. Vincent, S. Allassonniere, "Pythae", NeurIPS 2022, Datasets and Benchmarks.
"""

from __future__ import annotations

import importlib.util

import numpy as np

NAME = "vae of pythae"
_EPOCHS, _BATCH, _RATE = 200, 64, 1e-3


def installed() -> bool:
    """Return whether the package is."""
    return importlib.util.find_spec("pythae") is not None


def reconstructed(counts: np.ndarray, n_latent: int, *, seed: int) -> np.ndarray:
    """Return what the autoencoder makes of (n, E) counts; its networks are those that it comes with."""
    import torch
    from pythae.models import VAE, VAEConfig

    torch.manual_seed(seed)
    scale = float(counts.max())
    data = torch.from_numpy((counts / scale).astype(np.float32))
    network = VAE(VAEConfig(input_dim=(counts.shape[1],), latent_dim=n_latent, reconstruction_loss="mse"))
    optimiser = torch.optim.Adam(network.parameters(), _RATE)
    for _ in range(_EPOCHS):
        for some in torch.randperm(len(data)).split(_BATCH):
            optimiser.zero_grad()
            network({"data": data[some]}).loss.backward()
            optimiser.step()
    network.eval()
    with torch.inference_mode():
        latents = network.encoder(data).embedding
        return scale * network.decoder(latents).reconstruction.numpy().astype(np.float64)
