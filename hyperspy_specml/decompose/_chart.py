"""The coordinates in which latents are shown: among all of one surface, those in which it is as little bent as can be.

A network finds a surface of spectra; any smooth invertible map of its latents, taken into encoder and decoder, leaves
every spectrum that it decodes as it is. But scores are what users look at, and a score should mean the same all over
the map. So the chart is chosen in which equal steps change the spectrum, in units of the noise, as equally as can be:
its metric G, the squared derivative of the decoded scores over the noise variance of the spectrum, is as constant as
can be. Minimised is

    log det mean G - mean log det G,

which is never negative, zero where G is constant, and the same in all linear combinations of the latents, so that weak
directions count as much as strong ones. A network that is PCA stays PCA. No truth and no counts are asked, and nothing
that is scored changes.

References
----------
A. Gropp, M. Atzmon, Y. Lipman, "Isometric autoencoders", arXiv:2006.09289;
J. Ashburner, "A fast diffeomorphic image registration algorithm", NeuroImage 38 (2007) 95, for maps that are flows.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from hyperspy_specml.lazy import torch
from hyperspy_specml.models import LatentModel, tensor_for
from hyperspy_specml.progress import Progress
from hyperspy_specml.train import one_thread, without_compiler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from torch import Tensor

    from hyperspy_specml.nn import Chart

_POINTS = 400  # spectra at which the metric is looked at; there are some 40 numbers to find
_ITERATIONS, _EVALUATIONS = 40, 55  # of the latter as many as line searches commonly take
_STEP = 0.05  # of the derivative, in standard deviations of a latent
_FAINTEST = 0.05  # of the mean intensity: the noise of weaker spectra is not taken as smaller still
_LINEAR = 1e-4  # relative change of the derivative that single precision gives a linear decoder
_LEAST_GAIN = 0.01  # of what is minimised: less is not worth a map


def straightened(
    model: LatentModel, scores: np.ndarray, shot: float = 0.0, progress: Progress | None = None
) -> LatentModel:
    """Return the model in the chart of the most constant metric; what it decodes stays as it is.

    Parameters
    ----------
    model
        Its canonical latents are forgotten: the caller makes them anew.
    scores
        (n, P) compressed scores of spectra.
    shot
        Share of the noise variance that is proportional to the intensity of a spectrum.
    progress
        Its current stage.

    Raises
    ------
    Cancelled
        The progress was asked to end the call.
    """
    from hyperspy_specml.nn import Chart, Charted

    network = model.network
    device = str(next(network.parameters()).device)
    with one_thread(device):
        with torch.no_grad():
            latents = network.encode(tensor_for(network, (scores - model.centre) / model.scale))  # type: ignore[operator]
        chart = Chart(latents.shape[1]).to(device)
        _whiten(chart, latents)
        points = chart.whitened(latents)[:: -(-len(latents) // _POINTS)]
        metric = _metric(model, chart, points, shot)
        if metric is None or not _fit(chart, points, metric, progress or Progress()):
            return model
    return replace(model, network=Charted(copy.deepcopy(network), chart).eval())


def _whiten(chart: Chart, latents: Tensor) -> None:
    """Make mean and covariance of the latents those of the chart; a latent that is constant stays invertible."""
    values, vectors = torch.linalg.eigh(torch.cov(latents.T.double()).reshape(2 * (latents.shape[1],)))
    values = values.clamp_min(max(1e-12 * float(values.max()), 1e-30))
    chart.origin.copy_(latents.double().mean(dim=0))
    chart.axes.copy_((vectors / values.sqrt()).T)


def _metric(model: LatentModel, chart: Chart, points: Tensor, shot: float) -> Tensor | None:
    """Return the (n, K, K) squared change of the spectrum with the whitened latents, in units of the noise.

    Plus one, their own scatter over the map: a latent that noise hides has no shape. None where the decoder is linear.
    """
    network, back = model.network, torch.linalg.inv(chart.axes)

    def decoded(u: Tensor) -> Tensor:
        return model.scale * network.decode(u @ back.T + chart.origin)  # type: ignore[operator]

    steps = _STEP * torch.eye(points.shape[1], device=points.device)
    with torch.no_grad():
        change = torch.stack([decoded(points + d) - decoded(points - d) for d in steps], dim=2) / (2 * _STEP)
        if (change - change[0]).abs().max() <= _LINEAR * change.abs().max():
            return None
        total = tensor_for(network, model.basis.components().sum(axis=1))
        intensity = (decoded(points) + tensor_for(network, model.centre)) @ total + float(model.basis.offset.sum())
        noise = 1 + shot * (intensity / intensity.mean() - 1).clamp_min(_FAINTEST - 1)  # (n,)
        own = torch.eye(points.shape[1], device=points.device)
        return change.mT @ change / noise[:, None, None] + own  # (n, P, K) -> (n, K, K)


def _fit(chart: Chart, points: Tensor, metric: Tensor, progress: Progress) -> bool:
    """Fit the chart; return whether that was worth it."""
    k, own = points.shape[1], torch.logdet(metric)
    start = torch.cat([points[:, :, None], torch.eye(k, device=points.device).expand_as(metric)], dim=2)

    def bend() -> Tensor:
        jacobian = chart.flow(start)[:, :, 1:]
        seen = torch.linalg.solve(jacobian, metric, left=False)  # G inv(T)
        seen = torch.linalg.solve(jacobian.mT, seen)  # inv(T)' G inv(T)
        return torch.logdet(seen.mean(dim=0)) - (own - 2 * torch.linalg.slogdet(jacobian)[1]).mean()

    lbfgs = without_compiler(torch.optim.LBFGS)
    optimizer = lbfgs(chart.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")
    with torch.no_grad():
        before = float(bend())
    optimizer.step(_closure(chart, bend, progress.steps(range(_EVALUATIONS))))
    with torch.no_grad():
        after = float(bend())
    return math.isfinite(after) and after < before - _LEAST_GAIN


def _closure(chart: Chart, loss: Callable[[], Tensor], steps: Iterator[int]) -> Callable[[], float]:
    def evaluate() -> float:
        next(steps, None)  # tells how far it is; an unusually long search ends silently
        chart.zero_grad()
        value = loss()
        value.backward()
        return value.item()

    return evaluate
