"""Make the figure of README.md and of the start page again: ``python docs/make_figure.py``."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from hyperspy_specml import _demo

simulated = _demo.simulated_map(_demo.SHAPE, lazy=False)
result = simulated.signal.decomposition_ae(_demo.N_FIELDS)
table, figure = _demo.beside_truth(simulated, result)
print(table)
figure.savefig(drawn := io.BytesIO(), dpi=80)
Image.open(drawn).quantize(128).save(Path(__file__).parent / "_static" / "truth.png", optimize=True)
