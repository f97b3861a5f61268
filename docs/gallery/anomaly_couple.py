"""
An intermetallic that nobody expected
=====================================

A diffusion couple is mapped by EDS: iron on one side, chromium on the other, mixed in between. What
is normal are these two metals. Something else may have formed where they meet. Find it, name it, and
include it in what is normal.
"""

# %%
# The map is simulated; the truth is at the end. The metadata list the elements that are expected, and
# niobium is not among them. Nobody tells ``anomaly_map`` how many phases there are.
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

laves = specml.datasets.RarePhase(n_pixels=14, fraction=0.4, elements=("Nb",))
couple = {"n_phases": 2, "n_channels": 1024, "dose": 200}
simulated = specml.datasets.fe_cr_ni_map((60, 66), rare_phase=laves, random_state=3, **couple)
s = simulated.signal
s.set_elements(["Cr", "Fe"])

# %%
# Find
# ----
#
# ``fdr`` is the share of false regions among those found that is accepted on average.
found = s.anomaly_map(fdr=0.01)
print(found)

# %%
# The map is in standard deviations, with the regions outlined and numbered. Beside it are their
# spectra (grey), the difference to what is normal, and the lines of the likeliest element.
found.plot()

# %%
# Name
# ----
#
# Every region lists the elements with a line near its strongest difference, the likeliest first:
# all of an element's lines have to fit.
for region in found.regions:
    print(f"{region.n_pixels} pixels, {region.area:g} {region.area_units}, p = {region.p:.1g}")
    for candidate in region.candidates[:3]:
        print(f"  {candidate}: {candidate.distance:+.3f} {region.energy_units}, {candidate.evidence:.0f}")

# %%
# Most likely niobium, of a Laves phase, (Fe,Cr)2Nb; but the M lines of gold and of mercury, at nearly
# the same energy, fit almost as well. Look at the K lines of niobium, or at the L lines of the others,
# before you name it. The mean spectra are signals of the class of the map, so all that HyperSpy does
# with spectra can be done with them.
print(found.spectra)

# %%
# Include
# -------
#
# Once it is understood it can count as normal. The search is done anew, with the spectra of the
# regions among those that the model describes, and what it had found is not strange any more.
again = s.anomaly_map(known=found.spectra)
print(again)

# %%
# The same spectra serve for the next map, where the phase is no news. Whatever else there is would
# still be found.
other = specml.datasets.fe_cr_ni_map((60, 66), rare_phase=laves, random_state=4, **couple).signal
other.set_elements(["Cr", "Fe"])
print(other.anomaly_map())
print(other.anomaly_map(known=found.spectra))

# %%
# The truth
# ---------
#
# Summed over the spectrum, the phase cannot be seen.
figure, panels = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
images = {
    "counts": s.data.sum(axis=-1),
    "found": np.where(np.isfinite(found.score.data), found.score.data, 0),
    "planted": simulated.rare_mask.data,
}
for panel, (name, image) in zip(panels, images.items(), strict=True):
    panel.imshow(image)
    panel.set(title=name, xticks=[], yticks=[])
