"""Make the figure of README.md and of the start page again: ``python docs/make_figure.py``."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from hyperspy_specml.__main__ import DOSE, N_FIELDS, SHAPE, beside_truth
from hyperspy_specml.datasets import fe_l_map

simulated = fe_l_map(SHAPE, dose=DOSE)
result = simulated.signal.decomposition_ae(N_FIELDS)
table, figure = beside_truth(simulated, result)
print(table)
figure.savefig(drawn := io.BytesIO(), dpi=80)
Image.open(drawn).quantize(128).save(Path(__file__).parent / "_static" / "truth.png", optimize=True)
