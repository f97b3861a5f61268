"""
Eight labels of each phase
==========================

Somebody has labelled a few spectra of each phase by hand. ``pretrain`` makes an encoder without labels, from simulated
spectra; ``fine_tune`` turns the labels into a map. Cheap methods are tried on the same labels, and all that help are
blended.
"""

# %%
# Two maps of one alloy, at few counts. Of the first one eight pixels of every phase are labelled.
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

first, second = (
    specml.datasets.fe_cr_ni_map((36, 40), texture="grains", n_channels=256, dose=15, random_state=seed)
    for seed in (0, 1)
)
names = np.array(["phase a", "phase b", "phase c", "phase d"])
truth = names[first.truth["abundances"].data.argmax(axis=0)]
rng = np.random.default_rng(0)
labels = np.full(truth.shape, "", dtype=truth.dtype)  # "": no label
for name in np.unique(truth):
    all_of_it = np.flatnonzero(truth.ravel() == name)
    some = rng.choice(all_of_it, min(8, len(all_of_it)), replace=False)
    labels.ravel()[some] = name
print((labels != "").sum(), "labels of", labels.size, "spectra")

# %%
# The encoder
# -----------
#
# It learns to read composition, background and dose off X-ray spectra that are simulated from the lines of the elements
# in the metadata. No label is needed. The map only says which energies there are. Network and training are small here.
config = specml.TrainConfig(max_steps=200, evaluate_every=40)  # for this page; 1,500 steps by default
small = specml.PatchShape(width=48, depth=2)
encoder = specml.pretrain([first.signal], "simulated", shape=small, config=config)
print(encoder)

figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(encoder.report["steps"], encoder.report["scores"], marker="o")
axis.set(xlabel="step", ylabel="held-out score", title="pretraining on simulated spectra")

# %%
# The labels
# ----------
#
# Each way to use them is cross-validated with the labels: the spectra themselves, their principal components, those of
# aligned spectra, the likelihood of counts of mixtures of lines, a linear classifier of the composition that the
# encoder reads off spectra, or of its latents, low-rank adapters of the network. The table says what is gained by
# which, and how much of each the predictor takes.
predictor = encoder.fine_tune(first.signal, labels)
print(predictor)

# %%
# The map, and the next one
# -------------------------
#
# Neighbouring pixels are likely to be of one phase: that is used as far as it predicts pixels that are left out.
alone = predictor.classify(first.signal, context="spectral")
found = predictor.classify(first.signal)
again = predictor.classify(second.signal)
figure, panels = plt.subplots(1, 5, figsize=(13, 3), layout="constrained")
order = {name: number for number, name in enumerate(names)}
labelled = np.vectorize(lambda name: order.get(name, np.nan), otypes=[float])(labels)
next_truth = names[second.truth["abundances"].data.argmax(axis=0)]
maps = {
    "labels": labelled,
    "each spectrum alone": np.vectorize(order.get)(np.array(alone.names)[alone.labels.data]),
    "with neighbours": np.vectorize(order.get)(np.array(found.names)[found.labels.data]),
    "next map": np.vectorize(order.get)(np.array(again.names)[again.labels.data]),
    "its truth": np.vectorize(order.get)(next_truth),
}
for panel, (name, image) in zip(panels, maps.items(), strict=True):
    panel.imshow(image, vmin=0, vmax=3, cmap="viridis")
    panel.set(title=name, xticks=[], yticks=[])

unseen = labels == ""
print(f"each spectrum alone: {(np.array(alone.names)[alone.labels.data] == truth)[unseen].mean():.0%} right")
print(f"with neighbours: {(np.array(found.names)[found.labels.data] == truth)[unseen].mean():.0%} right")
print(f"right on the next map: {(np.array(again.names)[again.labels.data] == next_truth).mean():.0%}")

# %%
# ``phase_map`` takes the same labels. It learns the spectra of the phases from all pixels of this one map.
by_neighbours = first.signal.phase_map(labels={str(name): labels == name for name in names})
right = np.array(by_neighbours.names)[by_neighbours.labels.data] == truth
print(f"phase_map with the same labels: {right[unseen].mean():.0%}")

# sphinx_gallery_thumbnail_number = 2
