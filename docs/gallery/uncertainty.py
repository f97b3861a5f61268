"""
How sure is this number?
========================

A map of a line intensity is read as if every pixel were known equally well. Intervals say how well it is known, and a
simulated map, whose truth is at hand, says whether they keep their promise.
"""

# %%
# An EDS map of an alloy in which compositions change smoothly, 100 counts in a pixel.
import matplotlib.pyplot as plt

import hyperspy_specml as specml

simulated = specml.datasets.fe_cr_ni_map((28, 28), n_channels=256, dose=100)
s = simulated.signal

# %%
# Two models
# ----------
#
# For PCA the noise of the scores is known in closed form. The variational autoencoder gives each spectrum a
# distribution of its latents. Both are checked on a map that is drawn from the model itself and fitted from the start:
# the factor by which intervals have to be widened there is the *inflation*.
quick = specml.TrainConfig(max_steps=300)  # for this page: short
results = {
    "pca": s.decomposition_ae(3, architecture="pca"),
    "vae": s.decomposition_ae(3, architecture="vae", config=quick),
}
window = (6.2, 6.6)  # keV, Fe Ka
intervals = {name: dec.interval(window, level=0.9) for name, dec in results.items()}

energies = s.axes_manager.signal_axes[0].axis
inside = (energies >= window[0]) & (energies <= window[1])
truth = simulated.clean.data[..., inside].sum(axis=-1)

# %%
# The same line of the map, with the truth in black. Raw counts scatter by the root of their number; the intervals are
# narrower, as the model knows what the other channels say about iron.
row = len(truth) // 2
figure, panels = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
for panel, (name, (low, high)) in zip(panels, intervals.items(), strict=True):
    panel.fill_between(range(truth.shape[1]), low.data[row], high.data[row], alpha=0.4, label="90 % interval")
    panel.plot(s.data[row][:, inside].sum(axis=-1), ".", color="grey", label="counts")
    panel.plot(truth[row], color="black", label="truth")
    panel.set(title=name, xlabel="pixel", ylabel="counts of Fe Ka" if name == "pca" else "")
panels[0].legend()

# %%
# Is the truth inside as often as promised?
for name, (low, high) in intervals.items():
    covered = (low.data <= truth) & (truth <= high.data)
    width, inflation = float((high.data - low.data).mean()), specml.provenance(low)["inflation"]
    print(f"{name}: {covered.mean():.0%} of the pixels, {width:.1f} counts wide, inflation {inflation:.2f}")

# %%
# A map of the value beside a map of its error is what belongs into a paper: where the error is as large as the
# contrast, there is nothing to see.
low, high = intervals["vae"]
figure, panels = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
images = {
    "truth": truth,
    "middle of the interval": (low.data + high.data) / 2,
    "half width": (high.data - low.data) / 2,
}
for panel, (name, image) in zip(panels, images.items(), strict=True):
    figure.colorbar(panel.imshow(image), ax=panel, shrink=0.8)
    panel.set(title=name, xticks=[], yticks=[])

# %%
# Ratios need no error propagation by hand: ``dec.interval((iron, chromium))`` is the interval of the quotient.
pair = (window, (5.2, 5.6))
ratio = results["vae"].interval(pair, level=0.9)
iron, chromium = (s.isig[first:last].data.sum(axis=-1) for first, last in pair)
y, x = divmod(int((iron * chromium).argmax()), truth.shape[1])  # a pixel with much of both
low, high = (one.data[y, x] for one in ratio)
print(f"Fe / Cr of one pixel: {low:.2f} to {high:.2f}, from {iron[y, x]} and {chromium[y, x]} counts")

# sphinx_gallery_thumbnail_number = 2
