"""The chart of the latents: an inverse, its derivative, and the straightest coordinates of a surface."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hyperspy_specml.decompose import _chart
from hyperspy_specml.decompose._autoencoder import canonical
from hyperspy_specml.decompose._chart import straightened
from hyperspy_specml.models import LatentModel, parts_of
from hyperspy_specml.nn import Chart, Charted, DenseNetwork
from hyperspy_specml.statistics import PrincipalBasis

P, N_CHANNELS, N_SPECTRA = 5, 11, 700


class Surface(torch.nn.Module):
    """Latents are known functions of true coordinates; decoded scores too."""

    def __init__(self, *, bent: bool, flat: bool) -> None:
        super().__init__()
        self.bent, self.flat = bent, flat
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def encode(self, x):
        if self.flat:
            true = x[:, :2]
        else:  # on a cylinder of radius 2
            true = torch.stack([2 * torch.atan2(x[:, 1], x[:, 0]), x[:, 2]], dim=1)
        return torch.stack([true[:, 0], true[:, 1] + 0.3 * true[:, 0] ** 2], dim=1) if self.bent else true

    def decode(self, z):
        true = torch.stack([z[:, 0], z[:, 1] - 0.3 * z[:, 0] ** 2], dim=1) if self.bent else z
        if self.flat:
            return torch.nn.functional.pad(true, (0, P - 2))
        around = torch.stack([2 * torch.cos(true[:, 0] / 2), 2 * torch.sin(true[:, 0] / 2), true[:, 1]], dim=1)
        return torch.nn.functional.pad(around, (0, P - 3))


def example(*, bent, flat, size=30.0):
    """Return a model of noise-free scores on a surface, `size` times the noise large, and the truth."""
    rng = np.random.default_rng(3)
    true = rng.uniform(-1.5, 1.5, (N_SPECTRA, 2))
    network = Surface(bent=bent, flat=flat)
    columns = Surface(bent=False, flat=flat).decode(torch.tensor(true, dtype=torch.float32))
    vectors = np.linalg.qr(rng.normal(size=(N_CHANNELS, P)))[0]
    basis = PrincipalBasis(np.ones(N_CHANNELS), np.zeros(N_CHANNELS), vectors, np.ones(P))
    plain = LatentModel(
        basis, network, np.zeros(P, np.float32), size, np.eye(2, dtype=np.float32), np.zeros(2, np.float32),
        np.ones(2), np.zeros(P, np.float32),
    )  # fmt: skip
    scores = size * columns.detach().numpy()
    return canonical(plain, scores), scores, true


def unexplained(model, scores, true):
    """Return the shares of the variance of each true coordinate that are not linear in the latents."""
    design = np.column_stack([model.encode_scores(scores), np.ones(N_SPECTRA)])
    left = true - design @ np.linalg.lstsq(design, true, rcond=None)[0]
    return left.var(axis=0) / true.var(axis=0)


@pytest.mark.parametrize("flat", [True, False], ids=["plane", "cylinder"])
def test_coordinates_of_a_surface_without_curvature_of_its_own_are_found(flat):
    model, scores, true = example(bent=True, flat=flat)
    found = canonical(straightened(model, scores), scores)

    assert unexplained(model, scores, true)[1] > 0.05
    assert unexplained(found, scores, true).max() < 0.005
    np.testing.assert_allclose(found.predict(scores), model.predict(scores), atol=1e-3 * scores.std())


def test_where_the_metric_is_constant_the_model_is_left_as_it_is():
    model, scores, _ = example(bent=False, flat=False)

    assert straightened(model, scores) is model


def test_a_linear_decoder_is_left_as_it_is_also_where_the_noise_grows_with_the_intensity():
    model, scores, _ = example(bent=False, flat=True)

    assert straightened(model, scores, shot=1.0) is model


def test_the_metric_is_in_units_of_the_noise_of_each_spectrum():
    model, *_ = example(bent=True, flat=False)
    model = dataclasses.replace(model, centre=np.array([200, 0, 0, 0, 0], np.float32))
    chart, points = random_chart(2), torch.randn(9, 2)
    plain, counts = (_chart._metric(model, chart, points, shot) - torch.eye(2) for shot in (0.0, 0.5))

    decoded = model.network.decode(points @ torch.linalg.inv(chart.axes).T + chart.origin)
    sums = model.basis.spectra(model.scale * decoded.detach().numpy() + model.centre).sum(axis=1)
    noise = 1 + 0.5 * np.maximum(sums / sums.mean() - 1, -0.95)
    np.testing.assert_allclose(counts.numpy(), plain.numpy() / noise[:, None, None], rtol=2e-3, atol=1e-3)


def test_a_chart_that_noise_hides_is_none():
    model, scores, _ = example(bent=True, flat=True, size=0.01)  # a hundredth of the noise

    assert straightened(model, scores) is model


def test_a_latent_that_changes_nothing_does_no_harm():
    model, scores, true = example(bent=True, flat=True)
    idle = Surface(bent=True, flat=True)
    decode = idle.decode
    idle.decode = lambda z: decode(z[:, :2])
    idle.encode = lambda x: torch.cat([Surface(bent=True, flat=True).encode(x), 0 * x[:, :1]], dim=1)
    ones = np.ones(3)
    plain = dataclasses.replace(model, network=idle, rotation=np.diag(ones), origin=0 * ones, deviation=ones)

    found = canonical(straightened(plain, scores), scores)

    assert np.isfinite(found.encode_scores(scores)).all()
    assert unexplained(found, scores, true).max() < 0.005


def random_chart(k):
    torch.manual_seed(5)
    chart = Chart(k)
    with torch.no_grad():
        chart.coefficients.normal_(0, 0.1)
        chart.axes.copy_(torch.randn(k, k))
        chart.origin.normal_()
    return chart


@pytest.mark.parametrize("k", [1, 2, 5])
@torch.no_grad()
def test_a_chart_has_an_inverse_far_outside_too(k):
    chart = random_chart(k)
    u = torch.cat([torch.randn(17, k), 8 * torch.randn(17, k), 1000 * torch.randn(17, k)])
    z = torch.linalg.solve(chart.axes, u.T).T + chart.origin

    back = chart.whitened(chart.inverse(chart(z)))

    assert (chart(z) - u)[:17].abs().max() > 0.05  # it does something
    assert ((back - u).abs() / (1 + u.abs())).max() < 2e-3


@torch.no_grad()
def test_tangents_move_as_differences_of_points_do():
    chart, u, step = random_chart(3), torch.randn(7, 3), 1e-2
    ones = torch.eye(3)
    jacobian = chart.flow(torch.cat([u[:, :, None], ones.expand(7, 3, 3)], dim=2))[:, :, 1:]

    def at(points):
        return chart.flow(points[:, :, None])[:, :, 0]

    columns = [(at(u + step * d) - at(u - step * d)) / (2 * step) for d in ones]
    torch.testing.assert_close(jacobian, torch.stack(columns, dim=2), atol=2e-4, rtol=1e-3)


def test_the_chart_does_not_depend_on_the_latents_that_the_network_came_with(monkeypatch):
    monkeypatch.setattr(_chart, "_ITERATIONS", 100)
    model, scores, _ = example(bent=True, flat=False)
    turned = dataclasses.replace(model, network=Turned(model.network))

    found = [canonical(straightened(m, scores), scores).encode_scores(scores) for m in (model, turned)]

    np.testing.assert_allclose(found[0], found[1], atol=0.02 * found[0].std())


class Turned(torch.nn.Module):
    """The latents of another network in other linear combinations."""

    def __init__(self, network):
        super().__init__()
        self.network, self.turn = network, torch.tensor([[3.0, 1.0], [-0.5, 0.2]])

    def encode(self, x):
        return self.network.encode(x) @ self.turn.T - 2

    def decode(self, z):
        return self.network.decode(torch.linalg.solve(self.turn, (z + 2).T).T)


def test_a_model_with_a_chart_is_stored():
    basis, options = example(bent=True, flat=True)[0].basis, {"n_hidden": 5, "n_layers": 1}
    network = Charted(DenseNetwork(P, 2, **options), random_chart(2)).eval()
    ones = np.ones(2)
    model = LatentModel(
        basis, network, np.zeros(P), 1.0, np.diag(ones), 0 * ones, ones, np.zeros(P), name="dense", options=options
    )

    again = parts_of(model).model()

    scores = np.random.default_rng(0).normal(size=(7, P)).astype(np.float32)
    np.testing.assert_array_equal(again.encode_scores(scores), model.encode_scores(scores))
    np.testing.assert_array_equal(again.predict(scores), model.predict(scores))
