"""
2. Autoencoders
===============

A network with a bottleneck in place of straight axes: what it gains, what its latent space shows, and how a
phase that nobody asked for is found.
"""

# %%
# The map is made of iron L2,3 edges (EELS). Three fields shape each spectrum: the share of Fe3+ moves the edge,
# the thickness adds multiple scattering, the drift of the spectrometer moves everything; and the amount of iron
# scales it.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans

import hyperspy_specml as specml

rare = specml.datasets.ShiftedEdge(16, 3.0)
simulated = specml.datasets.fe_l_map((48, 48), dose=300, n_channels=192, rare_phase=rare)
s = simulated.signal

# %%
# A bottleneck of four
# --------------------
#
# The encoder turns a spectrum into four numbers, the decoder turns them back. Training looks at one part of the
# counts, stops by a second, and is judged on a third. Beside it stands PCA of the same size.
dec = s.decomposition_ae(4)
print(dec.report)

# %%
# The error against the truth, in units of the noise:
noise = np.mean((s.data - simulated.clean.data) ** 2)
for name, result in {"autoencoder": dec, "PCA": dec.baseline}.items():
    error = np.sqrt(np.mean((result.reconstruction.data - simulated.clean.data) ** 2) / noise)
    print(f"{name} with 4: {error:.3f} of the noise")

# %%
# Residuals beside each other show why: PCA leaves the moving edge in them.
middle = tuple(slice(n // 3, n // 2) for n in s.data.shape[:2])
figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
energy = s.axes_manager.signal_axes[0].axis
for name, result in {"autoencoder": dec, "PCA": dec.baseline}.items():
    averaged = (result.reconstruction.data - simulated.clean.data)[middle].mean(axis=(0, 1))
    axis.plot(energy, averaged, label=name)
axis.set(xlabel="energy loss (eV)", ylabel="counts", title="difference to the truth, mean of 64 pixels")
axis.legend()

# %%
# The latent space
# ----------------
#
# Neighbours in it have similar spectra. Nobody told the network of valence, yet it varies steadily.
view = dec.latent_view()
view.plot()

fe3 = simulated.truth["fe3_fraction"].data.ravel()
for name, result in {"autoencoder": dec, "PCA": dec.baseline}.items():
    maps = np.column_stack([result.scores.data.reshape(len(result.scores.data), -1).T, np.ones(fe3.size)])
    left = fe3 - maps @ np.linalg.lstsq(maps, fe3, rcond=None)[0]
    print(f"share of the variance of Fe3+ that the score maps of the {name} tell: {1 - left.var() / fe3.var():.2f}")

# %%
# Clusters
# --------
#
# Clustering cuts what varies steadily into pieces, in either space. That the pieces look like phases does not
# make them phases: there are none in this map.
figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
panels[0].imshow(simulated.truth["fe3_fraction"].data)
panels[0].set_title("share of Fe3+ (truth)")
for panel, (name, result) in zip(panels[1:], {"autoencoder": dec, "PCA": dec.baseline}.items(), strict=True):
    scores = result.scores.data.reshape(len(result.scores.data), -1).T
    clusters = KMeans(4, n_init=4, random_state=0).fit_predict((scores - scores.mean(axis=0)) / scores.std(axis=0))
    panel.imshow(clusters.reshape(s.data.shape[:2]), cmap="tab10")
    panel.set_title(f"k-means on scores, {name}")
for panel in panels:
    panel.axis("off")

# %%
# Something unknown
# -----------------
#
# In sixteen pixels the edge lies 3 eV higher than anywhere else. The textbook looks at squared errors: where the
# model fails, something is strange. But bright pixels have large errors, because noise grows with
# counts, and a network describes part of what it should not know.
square = np.square(dec.residual.data).sum(axis=-1)
found = s.anomaly_map()
truth = simulated.rare_mask.data.astype(bool)

figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
drawn = {"planted": truth, "squared error": square, "anomaly_map: score": found.score.data}
for panel, (name, values) in zip(panels, drawn.items(), strict=True):
    panel.imshow(values)
    panel.set_title(name)
    panel.axis("off")

for name, values in {"squared error": square, "anomaly_map": found.score.data}.items():
    top = np.argsort(values, axis=None)[::-1][: truth.sum()]
    print(f"{name}: {truth.ravel()[top].sum()} of the {truth.sum()} highest pixels are planted ones")

# %%
# :doc:`anomaly_map </user_guide/anomaly>` scans windows of energy and squares of pixels against a reference
# model, in units of the noise, and knows how high the maximum of so many comparisons gets by chance.
print(found)
