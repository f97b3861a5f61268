"""
A valence map from a hundred labels
===================================

The valence of iron is known in a hundred pixels of a map, from a careful fit, say. The energy axis drifts from pixel to
pixel, and counts are few. What can be said of all other pixels? ``pretrain`` learns from noise-free spectra of both
valences, ``fine_tune`` from the hundred labels.
"""

# %%
# The map: edges of iron whose valence, thickness and drift change smoothly. Noise-free spectra of the two valences,
# thin and thick, with little and much iron, may be standards or computed ones.
from itertools import product

import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

simulated = specml.datasets.fe_l_map((30, 32), dose=100)
s, truth = simulated.signal, simulated.truth["fe3_fraction"].data
fe3, thickness, iron = np.array(list(product((0.0, 1.0), (0.2, 1.4), (0.5, 1.5)))).T
library = s.inav[: len(fe3), 0].deepcopy()
library.data = specml.datasets.fe_l_spectra(fe3, thickness, iron=iron, energy=s.axes_manager[-1].axis)

labelled = np.random.default_rng(0).permutation(truth.size)[: truth.size * 5 // 48]  # a hundred of 960
labels = np.full(truth.shape, np.nan)  # NaN: no label
labels.ravel()[labelled] = truth.ravel()[labelled]

# %%
# The encoder learns to tell mixtures of the library apart whatever their shift.
config = specml.TrainConfig(max_steps=600, evaluate_every=100)  # for this page; 1,500 steps by default
shape = specml.PatchShape(width=64, depth=2)
encoder = specml.pretrain([s], library=library, shape=shape, config=config)

# %%
# Every method predicts labels that were left out. The table says which to believe, and how much of each the predictor
# takes: principal components of aligned spectra are hard to beat, and the encoder adds a little.
predictor = encoder.fine_tune(s, labels)
print(predictor)

# %%
# The map, its error by cross-validation, larger where a spectrum has fewer counts, and the truth, which nobody has
# but on a simulated map.
found = predictor.regress(s)
figure, panels = plt.subplots(1, 4, figsize=(12, 3), layout="constrained")
panels[0].imshow(labels, vmin=0, vmax=1, cmap="viridis", interpolation="none")
panels[1].imshow(found.value.data, vmin=0, vmax=1, cmap="viridis")
image = panels[2].imshow(truth, vmin=0, vmax=1, cmap="viridis")
for panel, title in zip(panels, ("labels", "predicted", "truth"), strict=False):
    panel.set(title=title, xticks=[], yticks=[])
figure.colorbar(image, ax=panels[:3], label="share of Fe3+", shrink=0.8)
unseen = np.isnan(labels)
error = np.sqrt(np.mean(found.error.data[unseen] ** 2))
panels[3].plot([0, 1], [0, 1], color="0.7")
panels[3].scatter(truth[unseen], found.value.data[unseen], s=2)
panels[3].set(xlabel="true share of Fe3+", ylabel="predicted", title=f"error {error:.2f}")

difference = (found.value.data - truth)[unseen]
print(f"root mean square error of unlabelled pixels: {np.sqrt(np.mean(difference**2)):.3f}, said: {error:.3f}")
print(f"explained share of the variance: {1 - np.mean(difference**2) / truth[unseen].var():.2f}")

# sphinx_gallery_thumbnail_number = 1
