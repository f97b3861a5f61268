"""
1. Principal components
=======================

What principal components tell of a spectrum image, how many of them are signal, and where they stop.
"""

# %%
# The map is simulated, so that every answer can be checked: an EDS map of an alloy with three phases and
# 200 counts in a pixel. On your data this line is ``s = hs.load("map.hspy")``.
import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

simulated = specml.datasets.fe_cr_ni_map((48, 48), n_channels=512, dose=200, texture="grains", n_phases=3)
s = simulated.signal
print(s)

# %%
# One pixel, and the sum of all
# -----------------------------
#
# A single spectrum is mostly noise: at 200 counts in 512 channels most channels hold none. Whatever we do
# has to use that neighbouring pixels and channels are not independent.
one, mean = s.inav[10, 10], s.mean()
hs.plot.plot_spectra([one, mean * (one.data.sum() / mean.data.sum())], legend=["one pixel", "mean of all"])

# %%
# Scree
# -----
#
# PCA turns the axes of the data so that the first describe most of the variance. Counts are first divided by
# their noise, the square root of their mean: without that the brightest line would decide. What noise alone
# gives is known then: the eigenvalues below the *noise edge*. The ones above it are signal.
dec = s.decomposition_ae(architecture="pca")
dec.report.plot()
print(dec.report)

# %%
# The *intrinsic dimension* of this map is two, although it has three phases: they lie nearly on a line, from
# iron to nickel, and the distance from zero is the intensity. Held-out counts, which PCA has not seen, agree:
# with more components their score gets worse again, because noise is described that the next recording would
# not repeat. A number of components is not a number of phases.
#
# Three, five and ten components
# ------------------------------
#
# The truth is known here, so the error of each reconstruction can be told. Too few components lose signal, too
# many bring noise back. Only the first is seen in residuals.
clean, noise = simulated.clean.data, s.data - simulated.clean.data
results = {k: s.decomposition_ae(k, architecture="pca") for k in (1, 2, 3, 5, 10)}
for k, result in results.items():
    error = np.sqrt(np.mean((result.reconstruction.data - clean) ** 2) / np.mean(noise**2))
    left = np.sqrt(np.mean(result.residual.data**2) / np.mean(noise**2))
    print(f"{k:2} components: error {error:.3f} of the noise; residual {left:.3f} of the noise")

# %%
# The residual always falls. It cannot say when to stop: that is why part of the counts is held back.
#
# One pixel, reconstructed:
spectra = [simulated.clean.inav[10, 10], *(results[k].reconstruction.inav[10, 10] for k in (3, 5, 10))]
hs.plot.plot_spectra(spectra, legend=["truth", "3", "5", "10"])

# %%
# Score maps
# ----------
#
# A score map says how much of a component each pixel holds.
results[3].plot()

# %%
# The third is noise, in its map as in its spectrum. The first two are not phases: they are at right angles to
# each other, and have negative counts. Their *scores* nevertheless separate the phases. Divided by the
# intensity of the pixel, the three phases are three clouds, along score 1.
labels = simulated.truth["abundances"].data.argmax(axis=0)
scores = results[3].scores.data.reshape(3, -1)
figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
points = axis.scatter(scores[1] / scores[0], scores[2] / scores[0], c=labels.ravel(), s=5, cmap="viridis")
axis.set(xlabel="score 1 / score 0", ylabel="score 2 / score 0", title="coloured by the true phase")

# %%
# The three phases
# ----------------
#
# :doc:`phase_map </user_guide/phases>` finds them from the counts themselves, with how sure it is of each pixel,
# and says how many there are.
phases = s.phase_map()
phases.plot()
print(phases)

# %%
# Where PCA stops
# ---------------
#
# Here it is as good as anything, because spectra are sums of three. Where lines move or shapes change, a
# component describes a change along a straight line only, and many are needed for one cause. The next lesson
# bends the line.
