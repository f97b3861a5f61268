"""Networks that know nothing but the labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

# Steps, spectra in a batch, and largest random shift in channels.
_STEPS, _BATCH, _SHIFT = 400, 64, 3


def scratch_cnn(rows: np.ndarray, labels: np.ndarray, n_classes: int, *, seed: int) -> np.ndarray:
    """Return what a convolutional network says of all spectra: classes, or values.

    Parameters
    ----------
    rows
        (n, E) counts.
    labels
        (n,) classes, -1 where there is none, or values, NaN where there is none.
    n_classes
        0 for values.
    seed
        Of weights, batches and shifts.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(labels >= 0 if n_classes else np.isfinite(labels))
    centre, spread = (0.0, 1.0) if n_classes else (float(labels[known].mean()), max(float(labels[known].std()), 1e-12))
    network = nn.Sequential(
        nn.Conv1d(1, 16, 9, stride=2, padding=4), nn.ReLU(), nn.Conv1d(16, 32, 9, stride=2, padding=4), nn.ReLU(),
        nn.Conv1d(32, 64, 9, stride=2, padding=4), nn.ReLU(), nn.AdaptiveAvgPool1d(16), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(1024, n_classes or 1),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01)
    for _ in range(_STEPS):
        some = rng.choice(known, min(_BATCH, len(known)))
        moved = np.stack([np.roll(rows[i], int(rng.integers(-_SHIFT, _SHIFT + 1))) for i in some])
        found = network(_shown(moved))
        if n_classes:
            loss = nn.functional.cross_entropy(found, torch.from_numpy(labels[some].astype(np.int64)))
        else:
            target = torch.from_numpy(((labels[some] - centre) / spread).astype(np.float32))
            loss = nn.functional.mse_loss(found[:, 0], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        found = np.concatenate([network(_shown(part)).numpy() for part in np.array_split(rows, -(-len(rows) // 512))])
    return found.argmax(axis=1) if n_classes else centre + spread * found[:, 0]


def _shown(rows: np.ndarray) -> torch.Tensor:
    """Return (n, 1, E) square roots of shares, of deviation about 1."""
    share = np.maximum(rows, 0) / np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)
    return torch.from_numpy((np.sqrt(share) * np.sqrt(rows.shape[1])).astype(np.float32)[:, None])
