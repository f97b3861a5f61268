"""
At what dose can Fe2+ and Fe3+ be told apart?
=============================================

The iron L2,3 edge tells the valence of iron: lines of Fe3+ lie 1.7 eV above those of Fe2+. How few
counts are enough, raw, after PCA, and after a denoising autoencoder?
"""

# %%
# The map is simulated, so that the share of Fe3+ in every pixel is known. It varies smoothly, and
# so do thickness and iron content. The energy axis is stable here; a drift would need a fit with a
# free shift, see :doc:`../benchmarks`.
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

doses = (3, 30, 300)  # counts per channel
simulated = {dose: specml.datasets.fe_l_map((32, 32), n_channels=256, dose=dose, drift=False) for dose in doses}

# %%
# Three ways to treat the counts: as they are, PCA with the rank that held-out counts choose, and
# ``denoise_dae``, which here sees neighbouring pixels too.


def treated(signal):
    """Return the spectra raw, after PCA and denoised, and the report of the last one."""
    clean = signal.denoise_dae()
    pca = signal.decomposition_ae(architecture="pca").reconstruction
    return {"raw": signal.data, "PCA": pca.data, "denoised": clean.data}, specml.denoise_report(clean)


results = {dose: treated(one.signal) for dose, one in simulated.items()}

# %%
# One spectrum
# ------------
#
# A pixel that is mostly Fe3+ and one that is mostly Fe2+, at each dose. The grey lines are the
# noise-free spectra.
energy = simulated[3].signal.axes_manager["Energy loss"].axis
share = simulated[3].truth["fe3_fraction"].data
pixels = [np.unravel_index(np.argmax(share), share.shape), np.unravel_index(np.argmin(share), share.shape)]

figure, panels = plt.subplots(len(doses), 3, figsize=(9, 7), sharex=True, layout="constrained")
for row, dose in zip(panels, doses, strict=True):
    for panel, (name, spectra) in zip(row, results[dose][0].items(), strict=True):
        for pixel, colour in zip(pixels, ("tab:red", "tab:blue"), strict=True):
            panel.plot(energy, simulated[dose].clean.data[pixel], color="lightgrey", linewidth=3)
            panel.plot(energy, spectra[pixel], color=colour, linewidth=0.8)
        panel.set(title=f"{name}, {dose} counts", xlim=(700, 732), yticks=[])
panels[-1, 1].set_xlabel("Energy loss (eV)")

# %%
# The share of Fe3+
# -----------------
#
# A fit of both valences and the background tells it, each scattered as at the thickness that fits the
# spectrum best. The error of the same fit to noise-free spectra is what the fit itself costs.


def references(thickness):
    """Return the spectra of Fe2+, Fe3+ and the background, (E, 3)."""
    two, three = (specml.datasets.fe_l_spectra(share, thickness, background=False, energy=energy) for share in (0, 1))
    background = specml.datasets.fe_l_spectra(0, thickness, iron=0, energy=energy)
    return np.stack([two, three, background], axis=1)


def fitted(spectra):
    """Return the map of the share of Fe3+."""
    rows = spectra.reshape(-1, spectra.shape[-1])
    weights = 1 / np.sqrt(rows.mean(axis=0))
    fits = []
    for thickness in np.linspace(0.2, 1.4, 7):
        model = references(thickness) * weights[:, None]
        amounts = np.linalg.lstsq(model, (rows * weights).T, rcond=None)[0]
        left = np.square(model @ amounts - (rows * weights).T).sum(axis=0)
        fits.append((left, amounts[1] / (amounts[0] + amounts[1])))
    left, shares = (np.array(values) for values in zip(*fits, strict=True))
    best = np.take_along_axis(shares, left.argmin(axis=0)[None], axis=0)
    return np.clip(best, -0.5, 1.5).reshape(spectra.shape[:-1])


figure, panels = plt.subplots(len(doses), 4, figsize=(9, 7), layout="constrained")
for row, dose in zip(panels, doses, strict=True):
    maps = {name: fitted(spectra) for name, spectra in results[dose][0].items()}
    for panel, (name, image) in zip(row, {"truth": share, **maps}.items(), strict=True):
        panel.imshow(image, vmin=0, vmax=1, cmap="coolwarm")
        error = np.sqrt(np.mean((image - share) ** 2))
        panel.set(title=name if name == "truth" else f"{name}: {error:.3f}", xticks=[], yticks=[])
    row[0].set_ylabel(f"{dose} counts")

floor = np.sqrt(np.mean((fitted(simulated[300].clean.data) - share) ** 2))
print(f"error of the fit to noise-free spectra: {floor:.3f}")

# %%
# Two shares that differ by less than twice the error cannot be told apart in one pixel. The
# improvement is real, but some of what is left is bias: where neighbours differ, the denoised
# spectra lie between them. The report estimates that without the truth.
for dose in doses:
    report = results[dose][1]
    left, noise = report.error, report.error_variance
    print(f"{dose} counts: {report.chosen}, error left {left:.2f}, noise in it {noise:.2f}")
