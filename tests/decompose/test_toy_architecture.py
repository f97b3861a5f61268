"""An architecture from outside the package: one registration, and every feature of a decomposition has it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

import hyperspy.api as hs
import numpy as np
import pytest
import torch
from torch import nn

import hyperspy_specml as specml
from hyperspy_specml.__main__ import main
from hyperspy_specml.decompose import Architecture, Fit, _registry, architecture_names
from hyperspy_specml.exceptions import ModelFileError, OptionError
from hyperspy_specml.models import AUTOENCODERS, LinearModel

QUICK = specml.TrainConfig(max_steps=60, evaluate_every=20)


@dataclass(frozen=True)
class ToyOptions:
    """Options of the toy: how fast its bends saturate, and how many there are."""

    gain: float = 0.5
    n_bends: int = 3


class ToyNetwork(nn.Module):
    """PCA whose decoder bends: latents pass a hyperbolic tangent too."""

    def __init__(self, n_scores, n_latent, gain, n_bends):
        super().__init__()
        self.gain = gain
        self.vectors = nn.Parameter(torch.zeros(n_scores, n_latent))
        self.offset = nn.Parameter(torch.zeros(n_scores))
        self.bend = nn.Linear(n_latent, n_bends)
        self.bent = nn.Parameter(torch.zeros(n_bends, n_scores))

    def init_from_pca(self, basis, offset):
        with torch.no_grad():
            self.vectors.copy_(basis)
            self.offset.copy_(offset)

    def encode(self, x):
        return (x - self.offset) @ self.vectors

    def decode(self, z):
        return z @ self.vectors.T + self.offset + torch.tanh(self.gain * self.bend(z)) @ self.bent


@pytest.fixture
def registry():
    """Give the registry back as it was."""
    known, networks = dict(_registry._KNOWN), dict(AUTOENCODERS)
    yield
    for now, before in ((_registry._KNOWN, known), (AUTOENCODERS, networks)):
        now.clear()
        now.update(before)


@pytest.fixture
def toy(registry):
    specml.register_architecture(specml.Autoencoder("toy", ToyNetwork, ToyOptions()))


@pytest.fixture
def signal(make_map, planted_counts, unchanged):
    counts, _ = planted_counts((13, 17), 61, dose=8.0)
    return unchanged(make_map(data=counts.astype(np.uint16)))


def decompose(signal, k=3, **options):
    return signal.decomposition_ae(k, **{"architecture": "toy", "config": QUICK, **options})


@pytest.mark.usefixtures("toy")
def test_it_is_fitted_and_reported_beside_pca(signal):
    dec = decompose(signal)

    assert dec.report.candidates[0].name == "toy (3)"
    assert dec.report.best_step > 0
    assert "toy, 3 components" in str(dec.report)
    assert "toy (3)" in dec.report._repr_html_()
    assert repr(dec).startswith("toy decomposition of steel, K = 3")
    assert specml.provenance(dec.scores)["architecture"] == "toy"
    assert dec.baseline.report.architecture == "pca"
    np.testing.assert_allclose(dec.residual.data, signal.data - dec.reconstruction.data, atol=1e-3)
    assert dec.residual.data.std() < 1.05 * dec.baseline.residual.data.std()
    dec.plot().canvas.draw()
    dec.report.plot().canvas.draw()


@pytest.mark.usefixtures("toy")
def test_the_number_of_its_latents_is_chosen_on_held_out_counts(signal):
    dec = decompose(signal, None)

    assert list(dec.report.rank.ranks[:3]) == [1, 2, 3]  # it was trained with each of them
    assert dec.report.rank.method == "held-out counts"
    assert dec.report.n_components == dec.report.rank.chosen == len(dec.scores.data) > 1


@pytest.mark.usefixtures("toy")
def test_it_is_saved_and_loaded_and_applied_to_another_map_bit_for_bit(signal, make_map, planted_counts, tmp_path):
    dec = decompose(signal, options=ToyOptions(gain=0.25, n_bends=5))
    other = make_map(data=planted_counts((7, 5), 61, seed=4)[0])
    expected = other.decomposition_ae(model=dec.model)

    path = dec.model.save(tmp_path / "toy")
    loaded = specml.load_model(path)
    again = other.decomposition_ae(model=path, architecture="toy")

    np.testing.assert_array_equal(again.scores.data, expected.scores.data)
    np.testing.assert_array_equal(again.reconstruction.data, expected.reconstruction.data)
    assert loaded.model.options == {"gain": 0.25, "n_bends": 5}
    assert loaded.model.network.gain == 0.25
    assert repr(loaded) == "<TrainedModel toy, K = 3, 61 channels, of 'steel'>"
    assert loaded.save(tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("toy")
def test_a_process_that_does_not_know_it_says_its_name_and_reads_its_file_once_it_does(signal, tmp_path, python):
    dec = decompose(signal)
    dec.model.save(tmp_path / "toy")
    np.save(tmp_path / "counts.npy", signal.data)
    source = "\n\n".join(inspect.getsource(one) for one in (ToyOptions, ToyNetwork))
    (tmp_path / "toy_package.py").write_text(
        "import hyperspy_specml as specml, torch\nfrom dataclasses import dataclass\nfrom torch import nn\n"
        f"{source}\nspecml.register_architecture(specml.Autoencoder('toy', ToyNetwork, ToyOptions()))\n"
    )
    attempt_and_know = (
        "import hyperspy_specml as specml\n"
        "try:\n    specml.load_model('toy')\n"
        "except specml.exceptions.ModelFileError as error:\n    print(error)\n"
        "import sys; sys.path.insert(0, '.')\n"
        "import numpy as np, hyperspy.api as hs, toy_package\n"
        "s = hs.signals.Signal1D(np.load('counts.npy'))\n"
        "s.axes_manager[-1].units, s.axes_manager[-1].scale, s.axes_manager[-1].offset = 'eV', 0.25, 700\n"
        "np.save('scores.npy', s.decomposition_ae(model='toy', show_progressbar=False).scores.data)\n"
    )

    said = python(attempt_and_know)
    assert "load_model('toy'): the file" in said
    assert "architecture 'toy' is not one of 'dense', 'conv', 'vae'; import the package that registers it first" in said
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), dec.scores.data)


@pytest.mark.usefixtures("registry")
def test_a_file_of_an_architecture_that_is_gone_is_refused_with_its_name(signal, tmp_path):
    specml.register_architecture(specml.Autoencoder("toy", ToyNetwork, ToyOptions()))
    path = decompose(signal).model.save(tmp_path / "toy")
    del AUTOENCODERS["toy"]

    with pytest.raises(ModelFileError, match=r"architecture 'toy' is not one of 'dense', 'conv', 'vae'"):
        specml.load_model(path)


@pytest.mark.usefixtures("toy")
def test_options_of_another_class_are_refused_by_the_name_of_its_own(signal):
    with pytest.raises(
        OptionError, match=r"architecture='toy', options=DenseOptions\(.*needs options=ToyOptions\(\.\.\.\)\."
    ):
        decompose(signal, options=specml.DenseOptions())
    with pytest.raises(OptionError, match=r"needs options=specml\.DenseOptions\(\.\.\.\)\."):
        decompose(signal, architecture="dense", options=ToyOptions())
    with pytest.raises(OptionError, match=r"energy_shift=True\) is not known to architecture='toy'"):
        decompose(signal, energy_shift=True)


@pytest.mark.usefixtures("toy")
def test_it_is_listed_where_a_name_is_misspelt(signal):
    with pytest.raises(OptionError, match=r"architecture='tyo' is unknown.*'toy'\. Did you mean 'toy'\?"):
        decompose(signal, architecture="tyo")
    assert architecture_names() == ("dense", "conv", "vae", "simplex", "pca", "toy")


@pytest.mark.usefixtures("toy", "brief_training")
@pytest.mark.filterwarnings("ignore:.*prefer:hyperspy_specml.exceptions.BaselineBetterWarning")
def test_the_command_line_knows_it_and_its_options(signal, tmp_path, capsys):
    signal.deepcopy().save(tmp_path / "map.hspy")
    seen = []

    class Watched(ToyNetwork):
        def __init__(self, n_scores, n_latent, gain, n_bends):
            super().__init__(n_scores, n_latent, gain, n_bends)
            seen.append((gain, n_bends))

    specml.register_architecture(specml.Autoencoder("toy", Watched, ToyOptions()))
    arguments = [str(tmp_path / "map.hspy"), "--architecture", "toy", "--output", str(tmp_path / "out")]

    assert main([*arguments, "--output-dimension", "2", "--option", "gain=0.75", "--option", "n_bends=2"]) == 0

    assert {*seen} == {(0.75, 2)}
    assert "toy (2)" in capsys.readouterr().out
    assert specml.provenance(hs.load(tmp_path / "out" / "scores.hspy"))["architecture"] == "toy"
    assert main([*arguments, "--option", "gian=1"]) == 1
    assert "'gian' is unknown; use one of 'gain', 'n_bends'. Did you mean 'gain'?" in capsys.readouterr().err
    assert main([*arguments, "--option", "n_bends=two"]) == 1
    assert "--option n_bends=two: n_bends needs int, e.g. n_bends=3." in capsys.readouterr().err


@pytest.mark.usefixtures("toy", "brief_training")
def test_the_command_line_runs_it_on_its_own_map(tmp_path, capsys):
    folder = tmp_path / "out"

    assert main(["--architecture", "toy", "--shape", "7", "11", "--output", str(folder)]) == 0

    assert "toy (4)" in capsys.readouterr().out
    assert (folder / "truth.png").exists()


@pytest.mark.usefixtures("registry")
def test_making_one_changes_nothing_before_it_is_registered(signal):
    specml.Autoencoder("dense", ToyNetwork, ToyOptions())

    assert AUTOENCODERS["dense"] is not ToyNetwork
    assert decompose(signal, 2, architecture="dense").model.model.options["n_hidden"] == 64


@pytest.mark.usefixtures("registry")
def test_what_is_no_architecture_is_refused():
    with pytest.raises(OptionError, match=r"needs an Architecture, e\.g\. Autoencoder\('mine'"):
        specml.register_architecture(ToyNetwork)


@dataclass(frozen=True)
class FirstVectors(Architecture):
    """No autoencoder: principal components of a size of its own, without any training."""

    name: str = "first vectors"
    options: ToyOptions = field(default_factory=ToyOptions)
    trained = False

    def fit(self, data, n_components, run):
        return Fit(
            LinearModel(data.fold_basis.first(n_components)), lambda: LinearModel(data.basis.first(n_components))
        )

    def compare(self, data, n_components, run):
        raise AssertionError("PCA's own rank curve chooses for what is not trained")


@pytest.mark.usefixtures("registry")
def test_an_architecture_need_not_be_an_autoencoder(signal, tmp_path):
    specml.register_architecture(FirstVectors())

    dec = decompose(signal, None, architecture="first vectors", config=None)

    assert dec.report.architecture == "first vectors"
    assert dec.report.n_components == dec.report.rank.chosen
    np.testing.assert_array_equal(dec.scores.data, dec.baseline.scores.data)
    path = dec.model.save(tmp_path / "first")
    assert "pca" in repr(specml.load_model(path))  # a linear model is one, whoever fitted it
