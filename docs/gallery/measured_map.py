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

folder = Path(os.environ.get("SPECML_DATA", "."))
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
# The sample is said to have three phases, but with so few counts in a pixel, and spectra that share
# most lines, the counts may support fewer components: a third one then predicts none of the counts
# held back. Unmixing with as many components as they support: score maps are shares of the counts.
if file.is_file():
    quick = specml.TrainConfig(max_steps=800)  # for this page: short
    shares = s.decomposition_ae(pca.report.n_components, architecture="simplex", config=quick)
    print(shares.report)
    shares.plot()

# %%
# Neighbours tell more than single pixels do: where each pixel is nearly of one phase, and neighbours
# are likely to be of the same one, counts support all three. Two are silicates, of which one has the
# calcium, and the third is an oxide of magnesium and iron. Pixels on the borders are shares of two.
if file.is_file():
    phases = s.phase_map()
    print(phases)
    phases.plot()

# %%
# What is the evidence? The score on held-out counts falls steeply up to three; beyond that it gains
# little, and what it would split off is no phase of its own. The mixture is better than PCA of the
# same size, so there is little that varies within the phases.
if file.is_file():
    phases.report.plot()
    print(phases.report)
