"""
A drifting energy axis
======================

In EELS the spectrometer drifts while the scan runs. How large is the drift of every spectrum, how sure is that, and
what do aligned spectra gain?
"""

# %%
# A map of iron L2,3 edges with a drift that is known, as the map is simulated. The valence is that of one kind of iron
# here: where it varies too, an edge moves chemically, and nothing in the counts tells that from a drift.
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

template = specml.datasets.fe_l_map((24, 24), n_channels=96, dose=30, drift=False).signal
energy = template.axes_manager.signal_axes[0].axis
step, shape, n = float(energy[1] - energy[0]), template.data.shape[:2], template.data.shape[0] * template.data.shape[1]

rng = np.random.default_rng(0)
drift = np.cumsum(rng.normal(0, 0.15, n)).reshape(shape)  # eV, a random walk along the scan
drift -= drift.mean()
spectrum = specml.datasets.fe_l_spectra(1.0, 0.5, energy=energy)
moved = np.stack([np.interp(energy - shift, energy, spectrum) for shift in drift.ravel()])
s = template.deepcopy()
s.data = rng.poisson(30 * moved / moved.mean()).reshape(template.data.shape).astype(np.uint16)

# %%
# The estimate learns the spectrum and the distribution of the shifts from all spectra together. It comes with an error
# for every pixel, and can be had for whole scan lines, ``per="line"``.
found = specml.estimate_shift(s)
print(found)

# %%
# In the order of the scan: truth, estimate with its error, and the maximum of the cross-correlation with the mean.
shift, error = found.shift.data, found.error.data
mean, counts = s.data.mean(axis=(0, 1)), s.data.reshape(n, -1)
counts = counts - counts.mean(axis=1, keepdims=True)
lags = np.arange(-10, 11)
correlated = np.stack([counts @ np.roll(mean, lag) for lag in lags]).argmax(axis=0)
estimates = {"estimate_shift": shift, "cross-correlation": step * lags[correlated].reshape(shape)}
# Where zero is, spectra cannot tell.
estimates = {name: one - (one - drift).mean() for name, one in estimates.items()}

figure, panel = plt.subplots(figsize=(9, 3.5), layout="constrained")
some, shown = range(min(n, 120)), {name: one.ravel()[:120] for name, one in estimates.items()}
half = error.ravel()[:120]
panel.fill_between(some, shown["estimate_shift"] - half, shown["estimate_shift"] + half, alpha=0.4)
panel.plot(shown["cross-correlation"], ".", color="tab:orange", label="cross-correlation")
panel.plot(shown["estimate_shift"], label="estimate_shift, with its error")
panel.plot(drift.ravel()[:120], color="black", label="truth")
panel.set(xlabel="spectrum, in the order of the scan", ylabel="drift (eV)")
panel.legend(ncols=3)

for name, one in estimates.items():
    print(f"{name}: off by {np.sqrt(np.mean((one - drift) ** 2)):.2f} eV, root mean square")

# %%
# What alignment is for
# ---------------------
#
# ``specml.align`` moves whole channels: counts stay counts, and every method goes on with them. Channels in which a
# spectrum was not recorded are 0 in integer data (NaN in floats); use ``crop=True`` before further analysis. The sum of
# the map gets back the width of its lines.
aligned = specml.align(s, found)
figure, panel = plt.subplots(figsize=(6, 3), layout="constrained")
panel.plot(energy, spectrum / spectrum.max(), color="lightgrey", linewidth=4, label="truth")
for name, one in {"as recorded": s, "aligned": aligned}.items():
    mean = np.nanmean(one.data.reshape(n, -1).astype(float), axis=0)
    panel.plot(one.axes_manager[-1].axis, mean / np.nanmax(mean), label=name)
panel.set(xlabel="energy loss (eV)", ylabel="mean spectrum, of maximum 1", xlim=(700, 730))
panel.legend()

# %%
# All spectra of the scan, one below the other:
figure, panels = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for panel, (name, one) in zip(panels, {"as recorded": s, "aligned": aligned}.items(), strict=True):
    values = one.axes_manager[-1].axis
    spectra = np.nan_to_num(one.data.reshape(n, -1).astype(float))
    panel.imshow(spectra, aspect="auto", extent=(values[0], values[-1], n, 0), interpolation="nearest")
    panel.set(title=name, xlabel="energy loss (eV)", xlim=(700, 730))
panels[0].set_ylabel("spectrum")
