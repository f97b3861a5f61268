"""
A measured map
==============

An EDS map of a sample from experiments on the deep mantle of the Earth: 80 x 80 pixels with 112
counts each, three phases. It is ``88_ES-LP_G8_selection2_cropped2.hspy`` of the package espm (MIT
licence), and no part of this package.
"""

# %%
# The file is looked for in the folder ``$SPECML_DATA``. Without it this page has no figures: put in
# the path of a file of yours.
import os
from pathlib import Path

import hyperspy.api as hs

import hyperspy_specml as specml

here = Path(__file__).resolve().parents[2]
folder = Path(os.environ.get("SPECML_DATA", here.parent / "shared" / "data"))
file = folder / "espm" / "88_ES-LP_G8_selection2_cropped2.hspy"
if not file.is_file():
    print("The measured map was not here when this page was made: set SPECML_DATA to its folder.")

# %%
# It is read lazily, block by block, as a file larger than memory would be. The number of components
# is chosen by held-out counts.
if file.is_file():
    s = hs.load(file, lazy=True)
    pca = s.decomposition_ae(architecture="pca")
    print(pca)
    pca.report.plot()

# %%
# Unmixing with as many components. The score maps are shares of the counts, and the spectra those
# of the phases.
if file.is_file():
    quick = specml.TrainConfig(max_steps=800)  # for this page: short
    phases = s.decomposition_ae(pca.report.n_components, architecture="simplex", config=quick)
    print(phases.report)
    phases.plot()
