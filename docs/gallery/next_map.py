"""
The next map
============

A model that was trained on one map is kept in a file and applied to the next: to one with fewer counts, and to one
whose energy axis is calibrated otherwise. Nothing is learnt again, so the scores of all maps mean the same.
"""

# %%
# Two EDS maps of one alloy. The second has a fifth of the counts, and its energy axis is off by 80 eV.
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

first = specml.datasets.fe_cr_ni_map((30, 30), n_channels=256, dose=300)
second = specml.datasets.fe_cr_ni_map((30, 30), n_channels=256, dose=60, random_state=1)
moved = second.signal.deepcopy()
moved.axes_manager.signal_axes[0].offset -= 0.08

# %%
# Learnt once. The ends of the axis are left out, so that an axis that is off still covers what the model needs.
dec = first.signal.isig[0.4:18.0].decomposition_ae(3, architecture="pca")
dec.model.save("alloy.specml", overwrite=True)
print(specml.load_model("alloy.specml"))

# %%
# Applied
# -------
#
# ``align=True`` looks for one shift and one dispersion of the whole map and moves the *model*: counts are never
# resampled. The report says what was found, and whether the model describes the new map as well as one of its own.
applied = {
    "same axis": second.signal.decomposition_ae(model="alloy.specml"),
    "80 eV off": moved.decomposition_ae(model="alloy.specml"),
    "80 eV off, align=True": moved.decomposition_ae(model="alloy.specml", align=True),
}
print(applied["80 eV off, align=True"].report)

# %%
# One reading for all maps
# ------------------------
#
# The share of iron is read from the scores by a linear combination that is fitted on the first map alone. As the scores
# of all maps mean the same, it serves for the next ones. Where the axis is off, a model that is not moved takes the
# shift for chemistry.
shares = {name: one.truth["abundances"].data[0] for name, one in {"first": first, "second": second}.items()}


def columns(scores):
    """Return the scores of all pixels for one intensity, beside a constant, (pixels, 3)."""
    rows = scores.data.reshape(3, -1).T
    return np.column_stack([rows[:, 1:] / rows[:, :1], np.ones(len(rows))])


reading = np.linalg.lstsq(columns(dec.scores), shares["first"].ravel(), rcond=None)[0]
maps = {name: (columns(result.scores) @ reading).reshape(shares["second"].shape) for name, result in applied.items()}

figure, panels = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
for panel, (name, image) in zip(panels, {"truth: share of iron": shares["second"], **maps}.items(), strict=True):
    panel.imshow(image, vmin=0, vmax=1)
    panel.set(title=name, xticks=[], yticks=[])
for name, image in maps.items():
    print(f"{name}: off by {np.sqrt(np.mean((image - shares['second']) ** 2)):.3f}, root mean square")
