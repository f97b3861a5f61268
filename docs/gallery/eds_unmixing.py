"""
PCA, NMF and simplex on an EDS map
==================================

Three ways to take the same counts apart, into as many components as there are phases.
"""

# %%
# The map is simulated, so that the true spectra and shares are known. In a corner of the sample a
# phase is pure; in between phases mix.
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

simulated = specml.datasets.fe_cr_ni_map((32, 32), n_channels=256, dose=200)
s = simulated.signal

# %%
# PCA and simplex are ours, NMF is HyperSpy's. HyperSpy writes the result to the signal, so it gets
# a copy, of floats.
simplex = s.decomposition_ae(3, architecture="simplex")
pca = simplex.baseline

copy = s.deepcopy()
copy.change_dtype("float32")
copy.decomposition(algorithm="NMF", output_dimension=3, print_info=False)
nmf_maps = copy.get_decomposition_loadings()
nmf_spectra = copy.get_decomposition_factors()

# %%
# Spectra
# -------
#
# Principal components are axes of the space of spectra: they have negative parts and no meaning one
# by one. Components of NMF and simplex are spectra that phases could have, and here both come near
# the true ones (grey). Each phase has lines that the others lack, and then it is enough that nothing
# is negative. Where the spectra of phases overlap, as EELS edges on their background do, nothing tells
# NMF where a phase ends: see :doc:`../benchmarks`.
truth = simulated.endmembers.data


def unit(spectra):
    """Divide spectra by their length."""
    return spectra / np.linalg.norm(spectra, axis=1, keepdims=True)


def angles(spectra):
    """Return the angle between each true spectrum and the found one that is nearest, in degrees."""
    return np.degrees(np.arccos((unit(truth) @ unit(spectra).T).max(axis=1)))


found = {"PCA": pca.components.data, "NMF": nmf_spectra.data, "simplex": simplex.components.data}
energy = s.axes_manager["Energy"].axis
figure, panels = plt.subplots(3, 1, figsize=(8, 7), sharex=True, layout="constrained")
for panel, (name, spectra) in zip(panels, found.items(), strict=True):
    panel.plot(energy, unit(truth).T, color="lightgrey", linewidth=4)
    panel.plot(energy, unit(spectra).T, linewidth=1)
    panel.set(title=name, xlim=(0, 10))
panels[-1].set_xlabel("Energy (keV)")

for name in ("NMF", "simplex"):
    print(f"{name}: angles to the true spectra {np.round(angles(found[name]), 1)} degrees")

# %%
# Maps
# ----
#
# Abundances of the simplex architecture are shares: between zero and one, and comparable between
# pixels of different thickness. The thickness is in ``simplex.intensity``.
maps = {"PCA": pca.scores, "NMF": nmf_maps, "simplex": simplex.scores}
figure, panels = plt.subplots(3, 3, figsize=(8, 8), layout="constrained")
for row, (name, scores) in zip(panels, maps.items(), strict=True):
    row[0].set_ylabel(name)
    for panel, image in zip(row, scores.data.reshape(3, *s.data.shape[:2]), strict=True):
        figure.colorbar(panel.imshow(image), ax=panel, shrink=0.7)
        panel.set(xticks=[], yticks=[])

# %%
# The report says what held-out counts think of it.
print(simplex.report)

# %%
# HyperSpy's own tools can go on with the result.
simplex.to_learning_results(copy)
print(copy.get_decomposition_model())
copy.plot_decomposition_factors()
