"""
3. Denoising, and which model to take
=====================================

What is gained by denoising at each dose, what it may erase, what the latent space is a compass for, and which
model to begin with.
"""

# %%
# One specimen, two doses: an alloy with a rare phase of twelve pixels, in which 40 % of the counts are lines
# of niobium.
import warnings

import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

# It is unprotected on purpose below, and would say so each time.
warnings.simplefilter("ignore", specml.exceptions.RemovedSignalWarning)

rare = specml.datasets.RarePhase(12, 0.4)
maps = {dose: specml.datasets.fe_cr_ni_map((36, 36), n_channels=256, dose=dose, rare_phase=rare) for dose in (20, 200)}

# %%
# PCA, and denoise_dae
# --------------------
#
# :doc:`denoise_dae </user_guide/denoising>` compares filters of score maps and networks, trained on noisy pairs,
# by counts that none of them has seen. The error is that against the truth, in units of the error of the counts
# themselves.
pictures = {}
for dose, simulated in maps.items():
    s, clean = simulated.signal, simulated.clean.data
    noise, planted = np.mean((s.data - clean) ** 2), simulated.rare_mask.data.astype(bool)
    energies = s.axes_manager.signal_axes[0].axis
    line = np.abs(energies - 2.166) < 0.08  # Nb La, in keV
    protected = s.denoise_dae()
    results = {
        "PCA(3)": s.decomposition_ae(3, architecture="pca").reconstruction.data,
        "denoise_dae": s.denoise_dae(model=specml.denoise_model(protected), protect=False).data,
        "denoise_dae, protected": protected.data,
    }
    pictures[dose] = {"truth": clean, "counts": s.data, **results}
    expected = clean[planted][:, line].sum()
    print(f"{dose} counts: {s.data[planted][:, line].sum() / expected:.2f} of the niobium is in the counts")
    for name, data in results.items():
        error, kept = np.mean((data - clean) ** 2) / noise, data[planted][:, line].sum() / expected
        print(f"   {name:24} error {error:.4f}, niobium {kept:.2f}")

# %%
# A model that is chosen by its mean error erases what is rare: twelve pixels of thirteen hundred do not matter to a
# mean. PCA(3) loses the niobium at any dose, and at 20 counts so does the best denoiser. ``protect=True``, the
# default, looks at what was removed and restores what noise cannot explain.
#
# As pictures, Nb La at 20 counts:
figure, panels = plt.subplots(1, 5, figsize=(13, 3.2), layout="constrained")
drawn = pictures[20]
for panel, (name, data) in zip(panels, drawn.items(), strict=True):
    shown = data[..., line].sum(axis=-1)
    panel.imshow(shown, vmin=0, vmax=np.percentile(drawn["truth"][..., line].sum(axis=-1), 99.9))
    panel.set_title(name)
    panel.axis("off")

# %%
# The latent space as a compass
# -----------------------------
#
# A composition of three elements has two free shares. Two latents hold them, as a bent triangle; one latent is
# a curve through the triangle and loses a direction. Read the number of latents as what can vary in
# the specimen, not as a setting.
smooth = specml.datasets.fe_cr_ni_map((36, 36), n_channels=256, dose=500)
shares = smooth.truth["abundances"].data.reshape(3, -1).T
figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for panel, k in zip(panels, (2, 1), strict=True):
    latent = smooth.signal.decomposition_ae(k).scores.data.reshape(k, -1)
    panel.scatter(latent[0], latent[1] if k > 1 else np.zeros(len(shares)), c=shares, s=5)
    panel.set(title=f"{k} latent{'s' * (k > 1)}, coloured by the composition", xlabel="score 0")

# %%
# Which one?
# ----------
#
# In this order, and no further than scores of held-out counts go on improving:
#
# 1. **PCA** (``architecture="pca"``). Fast, linear, understood. If spectra are sums of a few, stop here.
# 2. **Unmixing** (``"simplex"``) where you want spectra of phases and their shares instead of components.
# 3. **Autoencoder** (``"dense"``) where lines move or shapes change: the report says by how much it is better.
#    ``augment=...`` or ``"conv"`` where the next map may lie at other energies.
# 4. **Denoising autoencoder** (``denoise_dae``) for maps to look at or a first segmentation; quantify raw counts.
# 5. **Variational autoencoder** (``"vae"``) where you want to know how sure a number is, or draw new spectra.
#
# Spectra of this alloy are sums of three: PCA is as good as the autoencoder, and the scores say so. The
# variational one gains a little, because it expects that scores are noisy.
# :doc:`anomaly_map </user_guide/anomaly>` stands beside all of them: a model that describes most of a map well
# says nothing about the few pixels that it does not.
for architecture in ("pca", "dense", "vae"):
    report = smooth.signal.decomposition_ae(3, architecture=architecture).report
    best = (
        report.candidates[0]
        if architecture == "pca"
        else next(one for one in report.candidates if one.name.startswith(architecture))
    )
    print(f"{best.name}: held-out deviance {best.score:.3f}")
