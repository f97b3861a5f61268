"""
A rare phase in a dose series
=============================

Denoisers may take what is rare for noise. This shows what PCA and ``denoise_dae`` do to a phase of a few
pixels while the dose falls, and what the report says of removed signal.
"""

# %%
# An EDS map of an alloy with grains, in which a few pixels hold niobium. It is simulated at four doses.
import warnings

import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

doses = (1000, 300, 100, 30)  # counts per pixel
rare = specml.datasets.RarePhase(n_pixels=16, fraction=0.5, elements=("Nb",))
simulated = specml.datasets.fe_cr_ni_map((48, 48), n_channels=256, texture="grains", rare_phase=rare, dose=doses[0])
series = {dose: simulated.counts(dose=dose) for dose in doses}
inside = simulated.rare_mask.data
lines = simulated.endmembers.data[-1]  # of niobium
window = lines > 0.2 * lines.max()

# %%
# PCA with the rank that held-out counts choose, the denoised map, and the denoised map in which removed
# signal that noise cannot explain is restored.


def treated(signal):
    """Return maps of the niobium window and the report."""
    pca = signal.decomposition_ae(architecture="pca").reconstruction
    clean = signal.denoise_dae()
    plain = signal.denoise_dae(model=specml.denoise_model(clean), protect=False)
    found = {"raw": signal, "PCA": pca, "protect=False": plain, "denoised": clean}
    maps = {name: one.data[..., window].sum(axis=-1) for name, one in found.items()}
    return maps, specml.denoise_report(clean)


with warnings.catch_warnings():
    # The warning says that signal was removed. It is what this page is about.
    warnings.simplefilter("ignore", specml.exceptions.RemovedSignalWarning)
    results = {dose: treated(signal) for dose, signal in series.items()}

# %%
# Maps of the niobium lines
# -------------------------
figure, panels = plt.subplots(len(doses), 4, figsize=(8, 8), layout="constrained")
for row, dose in zip(panels, doses, strict=True):
    expected = (simulated.clean.data[..., window] * dose / doses[0]).sum(axis=-1)
    for panel, (name, image) in zip(row, results[dose][0].items(), strict=True):
        panel.imshow(image, vmin=0, vmax=expected.max())
        panel.set(title=f"{name}, {dose}", xticks=[], yticks=[])

# %%
# How much of it survives
# -----------------------
#
# The intensity in the window, in the pixels with niobium, above that of the pixels around them, and
# what the report says.
for dose in doses:
    maps, report = results[dose]
    expected = simulated.clean.data[..., window].sum(axis=-1) * dose / doses[0]
    background = np.median(expected[~inside])
    excess = (expected[inside] - background).sum()
    kept = {name: (image[inside] - background).sum() / excess for name, image in maps.items()}
    print(dose, ", ".join(f"{name} {share:.0%}" for name, share in kept.items()))
    print("   ", report.removed_in_words())

# %%
# At high doses the phase is a component of its own in PCA, and survives. At 100 counts and less PCA leaves it
# out: by itself its component predicts held-out counts no better than nothing. Filtered it does, and
# ``denoise_dae`` keeps every component of which that is true. So there is no niobium to restore here.
#
# What the report names are places where the denoised map is wrong otherwise, at nickel and iron lines and with
# enough counts to show it: mostly pixels at borders of grains, where neighbours were mixed.
