"""
A triangle of compositions
==========================

An alloy of iron, chromium and nickel has two free shares, the third is what remains. All
compositions lie in a triangle. What does a latent space of two dimensions make of it, and what does
one of a single dimension lose?
"""

# %%
# The map is simulated, an EDS map of which the composition of every pixel is known. Its colour
# below is the share of iron in red, of chromium in green, of nickel in blue.
import matplotlib.pyplot as plt
import numpy as np

import hyperspy_specml as specml

simulated = specml.datasets.fe_cr_ni_map((40, 40), n_channels=256, dose=500)
s = simulated.signal
shares = simulated.truth["abundances"].data.reshape(3, -1).T  # (pixels, 3)

two = s.decomposition_ae(2)
one = s.decomposition_ae(1)

# %%
# The latent space
# ----------------
#
# The scores of the autoencoder with two latents, one dot for each pixel. The network has never seen
# a composition, but its plane is the triangle, bent: the corners are the pure metals, and
# compositions change steadily in between.
latent = two.scores.data.reshape(2, -1)

figure, axis = plt.subplots(figsize=(5, 4.5), layout="constrained")
axis.scatter(*latent, c=shares, s=6)
axis.set(xlabel="score 0", ylabel="score 1", title="2 latents, coloured by the true composition")

# %%
# What one latent loses
# ---------------------
#
# A decoded spectrum is again a mixture of the pure spectra, nearly. Least squares tell its
# composition, which can be drawn into the triangle. With one latent all decoded spectra lie on a
# curve. It winds through the triangle to come near as many pixels as it can, and what lies across
# it is lost: on its way from one corner to another it has to leave out most mixtures, and
# neighbours in the triangle may be far apart on the curve.
pure = simulated.endmembers.data


def composition(result):
    """Return the shares of the pure spectra in the decoded ones, (pixels, 3)."""
    decoded = result.reconstruction.data.reshape(len(shares), -1)
    amounts = np.linalg.lstsq(pure.T, decoded.T, rcond=None)[0].T
    return amounts / amounts.sum(axis=1, keepdims=True)


def in_triangle(found):
    """Return the place in the triangle: iron left, chromium right, nickel on top."""
    return found @ np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])


figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
drawn = {"truth": shares, "2 latents": composition(two), "1 latent": composition(one)}
for panel, (name, found) in zip(panels, drawn.items(), strict=True):
    panel.plot(*in_triangle(np.eye(3)[[0, 1, 2, 0]]).T, color="grey", linewidth=0.8)
    panel.scatter(*in_triangle(found).T, c=shares, s=4)
    panel.set(title=name, aspect="equal")
    panel.axis("off")

# %%
# The same in numbers, as the root mean square error of the three shares, and what held-out counts
# say. The report needs no truth: the score of one latent is worse by far more than its standard
# error.
for result in (one, two):
    error = np.sqrt(np.mean((composition(result) - shares) ** 2))
    best = result.report.candidates[0]
    print(f"{best.name}: error of the shares {error:.3f}, held-out deviance {best.score:.2f}")

# %%
# These spectra are mixtures of fixed ones, which PCA describes without a network. The thickness of
# the sample is a third free number beside the composition, so three components of PCA tell all that
# there is, and the report says so:
print(two.report)
