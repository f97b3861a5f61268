"""
A map larger than memory
========================

A file is read block by block, a fixed number of times. What takes the time, and what would a graphics card change?
"""

# %%
# A map is written to disk in chunks and opened lazily. This one is small, so that the page is built quickly; nothing
# below depends on its size. ``memory_budget`` is what one pass may hold at a time, here twenty megabytes.
import time

import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

s = specml.datasets.fe_cr_ni_map((96, 112), texture="grains", n_channels=512, dose=60).signal
s.save("map.hspy", chunks=(32, 28, s.data.shape[-1]), overwrite=True)
s = hs.load("map.hspy", lazy=True)
print(s, f"{s.data.nbytes / 1e6:.0f} MB in {s.data.npartitions} chunks")

# %%
# A ``Progress`` is told of every stage; this one keeps the seconds of each.


class Stages(specml.Progress):
    """Seconds by the name of the stage."""

    def __init__(self):
        super().__init__()
        self.seconds, self.last = {}, time.perf_counter()

    def show(self):
        now = time.perf_counter()
        self.seconds[self.stage] = self.seconds.get(self.stage, 0) + now - self.last
        self.last = now


small = specml.TrainConfig(memory_budget=20_000_000)
watched = {}
for architecture in ("pca", "dense"):
    progress = Stages()
    dec = s.decomposition_ae(3, architecture=architecture, show_progressbar=progress, config=small)
    watched[architecture] = progress.seconds

# %%
# Reading grows with the file, training does not: networks are trained on the principal scores of a sample. Only the
# training can run on a graphics card, so that is all it can shorten.
figure, axis = plt.subplots(figsize=(9, 2.6), layout="constrained")
stages = dict.fromkeys(name for one in watched.values() for name in one if name)
longest = {name: max(one.get(name, 0) for one in watched.values()) for name in stages}
names = sorted(stages, key=longest.get, reverse=True)
left = np.zeros(len(watched))
for group in [[name] for name in names[:7]] + [names[7:]]:
    seconds = np.array([sum(one.get(name, 0) for name in group) for one in watched.values()])
    axis.barh(list(watched), seconds, left=left, label=group[0] if len(group) == 1 else "all others")
    left += seconds
axis.set_xlabel("seconds")
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
# Scores and components are small and in memory. What has the size of the map is lazy: it is computed where it is looked
# at, or piece by piece when it is saved.
print(type(dec.scores.data).__name__, dec.scores.data.shape)
print(dec.reconstruction)
dec.reconstruction.save("reconstruction.hspy", overwrite=True, show_progressbar=False)

figure, panels = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
images = {"counts": s.sum(-1).data.compute(), "score 0": dec.scores.data[0], "score 1": dec.scores.data[1]}
for panel, (name, image) in zip(panels, images.items(), strict=True):
    panel.imshow(image)
    panel.set(title=name, xticks=[], yticks=[])

# sphinx_gallery_thumbnail_number = 2
