"""
Phases of an alloy
==================

Which phases does a map consist of, where are they, how much is there of each, and is the next map
made of the same ones?
"""

# %%
# The map is simulated: four phases in grains, with so few counts that a single spectrum hardly shows
# which phase it is of.
import numpy as np

import hyperspy_specml as specml

simulated = specml.datasets.fe_cr_ni_map((48, 60), texture="grains", n_channels=256, dose=60)
s = simulated.signal
print(s, "with", round(float(s.data.sum(axis=-1).mean())), "counts in a pixel")

# %%
# How many phases there are is what predicts counts best that were held out. What lies between two
# phases as their mixture, or only varies within one, is left out again.
phases = s.phase_map()
phases.plot()

# %%
print(phases)

# %%
# The report shows the search: scores of all numbers that were tried, and the mixture beside PCA of
# the same size.
phases.report.plot()
print(phases.report)

# %%
# What each phase is made of
# --------------------------
#
# Summed spectra are counts in the class of the signal, so exspy quantifies them as any other.
# Factors of one for all lines are an example, not a calibration.
spectra = phases.spectra
spectra.set_elements(["Cr", "Fe", "Ni"])
spectra.set_lines(["Cr_Ka", "Fe_Ka", "Ni_Ka"])
lines = spectra.get_lines_intensity()
for element in spectra.quantification(lines, method="CL", factors=[1.0, 1.0, 1.0], plot_result=False):
    print(element.metadata.General.title, np.round(element.data, 1))

# %%
# Where spectra lie
# -----------------
#
# One dot is a pixel, in two scores for one intensity. With few counts the phases overlap in this
# picture; neighbours in the map tell them apart.
phases.latent_view().plot()

# %%
# The next map
# ------------
#
# It has ten times the counts, and a phase of 24 pixels that the first one has not: these are none of the known phases,
# besides about 1 % of the other pixels (``level``).
second = specml.datasets.fe_cr_ni_map(
    (48, 60), texture="grains", n_channels=256, dose=600, rare_phase=specml.datasets.RarePhase(), random_state=1
).signal
known = second.phase_map(model=phases.rename({0: "most of it"}).model)
known.plot()
print(int((known.labels.data == -2).sum()), "pixels are none of the known phases")
