"""
A measured map
==============

An EDS map of a sample from experiments on the deep mantle of the Earth: 80 x 80 pixels with 112 counts each, three
phases. The file is one of the package espm (MIT licence), and no part of this package.
"""

# %%
# ``specml.data`` fetches it from its public place and checks it byte by byte. Where there is no network, as on some
# machines that build these pages, this page is of a measured spectrum that exspy ships: FePt particles, drawn with its
# counts on a support that has all but their lines, and a splinter of the copper grid.
import exspy
import numpy as np

import hyperspy_specml as specml


def particles():
    """Return a map of particles with a measured spectrum."""
    spectrum = exspy.data.EDS_TEM_FePt_nanoparticles()
    energies, counts = spectrum.axes_manager[0].axis, spectrum.data.astype(float)
    lines = (0.7, 2.05, 6.4, 7.06, 9.44, 11.07, 11.25)  # keV, of iron and platinum
    theirs = np.any([np.abs(energies - line) < 0.25 for line in lines], axis=0)
    support = np.where(theirs, np.interp(energies, energies[~theirs], counts[~theirs]), counts)
    y, x = np.mgrid[:60, :64]
    centres = ((14, 20), (40, 12), (47, 44), (20, 46))
    inside = np.clip(6 - np.min([np.hypot(y - b, x - a) for a, b in centres], axis=0), 0, 1)
    means = (1 - inside[..., None]) * 40 * support / support.sum() + inside[..., None] * 120 * counts / counts.sum()
    means[51:54, 29:32, np.abs(energies - 8.04) < 0.15] *= 12  # a splinter of the copper grid
    axis = spectrum.axes_manager[0].get_axis_dictionary()
    axes = [{"name": name, "size": size, "navigate": True} for name, size in (("y", 60), ("x", 64))]
    data = np.random.default_rng(0).poisson(means).astype(np.uint16)
    return exspy.signals.EDSTEMSpectrum(data, axes=[*axes, axis], metadata=spectrum.metadata.as_dictionary())


try:
    s = specml.data.load("deep_mantle", lazy=True)
except (ImportError, specml.exceptions.DownloadError) as reason:
    print(reason)
    s = particles().as_lazy()
print(s)

# %%
# It is read lazily, block by block, as a file larger than memory would be. The number of components
# is chosen by held-out counts.
pca = s.decomposition_ae(architecture="pca")
print(pca)
pca.report.plot()

# %%
# The sample of the deep mantle is said to have three phases, but with so few counts in a pixel, and spectra that share
# most lines, the counts may support fewer components: a third one then predicts none of the counts held back. Unmixing
# with as many components as they support: score maps are shares of the counts.
quick = specml.TrainConfig(max_steps=300)  # for this page: short
shares = s.decomposition_ae(max(2, pca.report.n_components), architecture="simplex", config=quick)
print(shares.report)
shares.plot()

# %%
# Neighbours tell more than single pixels do: where each pixel is nearly of one phase, and neighbours are likely to be
# of the same one, the counts of the deep mantle support all three. Two are silicates, of which one has the calcium, and
# the third is an oxide of magnesium and iron. Pixels on the borders are shares of two.
phases = s.phase_map()
print(phases)
phases.plot()

# %%
# What is the evidence? The score on held-out counts falls steeply up to the number that is chosen; beyond that it gains
# little, and what it would split off is no phase of its own.
phases.report.plot()
print(phases.report)

# %%
# Is there anything that these phases do not explain? In the map of the deep mantle, gallium and platinum in one corner:
# most likely what a focused ion beam left when the sample was cut and covered. It is for you to say what is strange.
found = s.anomaly_map()
print(found)
found.plot()

# sphinx_gallery_thumbnail_number = 3
