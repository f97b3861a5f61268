"""
Figures of every result
=======================

What ``plot()`` draws: of every kind of result, on maps of one, two and three scan axes. Maps have scale bars and colour
bars with units, and colours that diverge from zero where scores have both signs. Spectra name the lines that
stand out, of the elements in ``metadata.Sample.elements``.
"""

# %%
# Every ``plot()`` returns its figure, and draws into a given one: ``dec.plot(figure)`` takes a figure or a subfigure.
# ``components=`` chooses components, phases or regions. A notebook shows a figure once.
import warnings
from importlib.resources import files
from pathlib import Path

import hyperspy.api as hs
import matplotlib.pyplot as plt

import hyperspy_specml as specml

rare = specml.datasets.RarePhase(n_pixels=14, fraction=0.4, elements=("Nb",))
grains = {"texture": "grains", "n_channels": 512, "rare_phase": rare, "random_state": 1}
s = specml.datasets.fe_cr_ni_map((60, 66), **grains).signal
quick = specml.TrainConfig(max_steps=400)  # for this page: short


# %%
# Decomposition
# -------------
#
# Twelve components, and one of them.
dec = s.decomposition_ae(12, architecture="pca")
dec.plot()

# %%
dec.plot(components=[0])

# %%
# The held-out evidence behind the number of components.
dec.report.plot()

# %%
# Anomalies
# ---------
found = s.anomaly_map()
found.plot()

# %%
# Phases
# ------
phases = s.phase_map(known=found.spectra)
phases.plot()

# %%
phases.report.plot()

# %%
# The pixels along the directions in which spectra differ most.
phases.latent_view().plot()

# %%
# Denoising
# ---------
#
# The result is a signal: HyperSpy plots it. The sum of the Cr Ka line before and after:
clean = s.denoise_dae(context="spatial", config=quick)
maps = [one.isig[5.2:5.6].integrate1D(-1).T for one in (s, clean)]
hs.plot.plot_images(
    maps, label=["counts, Cr Ka", "denoised"], per_row=2, scalebar="all", axes_decor="off", cmap="viridis"
)
plt.show()

# %%
specml.denoise_report(clean).plot()

# %%
# An oblong map
# -------------
oblong = specml.datasets.fe_cr_ni_map((18, 60), n_channels=256).signal
oblong.decomposition_ae(3, architecture="pca").plot()

# %%
# Three scan axes
# ---------------
#
# Of a series of frames or slices the one in the middle is drawn, and its place is in the title.
series = specml.datasets.fe_cr_ni_map((3, 24, 30), n_channels=256).signal
series.decomposition_ae(2, architecture="pca").plot()

# %%
# A line scan that comes with exspy
# ---------------------------------
#
# Simulated low-loss spectra of a wedge, from the tests of the package exspy.
shipped = files("exspy") / "tests" / "signals" / "data" / "EELS_LL_linescan_simulated_thickness_variation.hspy"
line = hs.load(str(shipped)).isig[-5.0:100.0] if Path(str(shipped)).is_file() else None
if line is not None:
    line.decomposition_ae(2, architecture="pca", noise="gaussian").plot()

# %%
# Measured maps
# -------------
#
# They are no part of this package: ``specml.data`` fetches them from where they are public. Without a network, a line
# says so in place of their figures.


def draw(name: str, n_components: int) -> None:
    """Decompose, denoise, search and map a measured file, if it can be had."""
    try:
        measured = specml.data.load(name)
    except (ImportError, specml.exceptions.DownloadError) as reason:
        print(reason)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", specml.exceptions.SpecMLWarning)  # spectra of BTO mix everywhere
        measured.decomposition_ae(n_components, architecture="pca").plot()
        specml.denoise_report(measured.denoise_dae(config=quick)).plot()
        measured.anomaly_map().plot()
        measured.phase_map().plot()


# %%
# EDS of FePt nanoparticles (NIST, public domain).
draw("fept_nanoparticles", 3)

# %%
# Vibrational EELS of BaTiO3 (MIT licence).
draw("vibrational_eels", 3)

# %%
# A line scan of cathodoluminescence (RosettaSciIO, GPL-3).
draw("cl_line_scan", 2)

# sphinx_gallery_thumbnail_number = 4
