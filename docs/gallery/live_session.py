"""
A session at the microscope
===========================

A scan is watched while it runs: a phase appears that was not there before, the beam takes an element out of the
sample, and a second pass looks longer where the first one left doubts. Everything is simulated and replayed.
"""

# %%
# A phase that comes late
# -----------------------
#
# Grains of two alloys, and nine pixels with niobium. The scan goes from coarse to fine, so what it has not seen can be
# bounded at any time.
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import shift

import hyperspy_specml as specml

laves = specml.datasets.RarePhase(n_pixels=9, fraction=0.4, elements=("Nb",))
simulated = specml.datasets.fe_cr_ni_map(
    (30, 32), texture="grains", n_phases=2, n_channels=512, dose=100, rare_phase=laves, random_state=2
)
s = simulated.signal
shape = s.axes_manager.navigation_shape

monitor = specml.LiveMonitor(shape, s, order="grid", beside=False)
for event in monitor.replay(s):  # at a microscope: monitor.update(block, positions) whenever spectra come
    print(event)
print(monitor.unseen)
monitor.plot()

# %%
# Which of these pixels is one of the nine? Niobium has its lines at 2.17 and 2.26 keV.
for event in monitor.events:
    print(f"phase {event.phase}: {event.energy:.2f} keV", simulated.rare_mask.data[event.position[::-1]])

# %%
# An element that decays
# ----------------------
#
# The same four pixels are read again and again, 20 000 counts a frame; 5 % of them are oxygen, of which the beam takes
# 4 % per frame. The energy axis drifts meanwhile, by a twentieth of a channel per frame.
rng, axis = np.random.default_rng(0), s.axes_manager.signal_axes[0].axis
metals = simulated.clean.data.sum(axis=(0, 1)) / simulated.clean.data.sum()
oxygen = np.exp(-0.5 * ((axis - 0.525) / 0.03) ** 2)
oxygen /= oxygen.sum()

template = s.inav[:2, :2].deepcopy()
template.add_elements(["O"])
frames = specml.LiveMonitor((2, 2), template, beside=False)
for frame in range(30):
    mean = 0.95 * metals + 0.05 * 0.96**frame * oxygen
    mean = np.maximum(shift(mean, 0.05 * frame, mode="nearest"), 0)
    for event in frames.update(rng.poisson(5000 * mean, (4, axis.size)).astype(np.uint16)):
        print(event)

# %%
# A second pass
# -------------
#
# Where the first pass left doubts, the second one stays longer; the sum of the dwell times is that of an even pass.
# Where the counts do not even tell how many phases there are, it is refused, and the second pass is an even one.
try:
    dwell = monitor.next_dwell(total=s.data[..., 0].size, max_ratio=4).data
except specml.exceptions.DataRequiredError as reason:
    print(reason)
    dwell = np.ones(s.data.shape[:2])

# The second pass, simulated.
second = rng.poisson(simulated.clean.data * dwell[..., None])
positions = specml.scan_order(shape, "raster")
monitor.update(second.reshape(-1, axis.size).astype(np.uint16), positions, even=False)
monitor.finish()

figure, panels = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
images = {"counts": s.data.sum(axis=-1), "dwell time": dwell, "phases": monitor.phases.labels.data}
for panel, (name, image) in zip(panels, images.items(), strict=True):
    panel.imshow(image)
    panel.set(title=name, xticks=[], yticks=[])
