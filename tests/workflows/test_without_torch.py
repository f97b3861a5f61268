"""PCA, filters and the default scan: torch, which takes half a gigabyte of memory, is loaded with the first network."""

from __future__ import annotations

import os
import subprocess
import sys

import hyperspy_specml as specml

SCRIPT = """
import sys

import hyperspy.api as hs
import hyperspy_specml as specml

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch was asked for")

hs.preferences.General.show_progressbar = False
sys.meta_path.insert(0, NoTorch())
s = specml.datasets.fe_cr_ni_map((13, 14), n_channels=64, dose=300).signal
dec = s.decomposition_ae(2, architecture="pca")
model = specml.load_model(dec.model.save(sys.argv[1]))
print(dec.residual.data.shape, s.as_lazy().decomposition_ae(model=model).scores)
print(s.anomaly_map())
print(s.denoise_dae(model=sys.argv[2], protect=True).data.sum() / s.data.sum())
print(specml.estimators.NoiseWeightedPCA(2).fit(s.data.reshape(-1, 64)), specml.TrainConfig(), specml.DenoiseOptions())
assert "torch" not in sys.modules
sys.meta_path.pop(0)
print(s.decomposition_ae(2, config=specml.TrainConfig(max_steps=2)).report.architecture, "torch" in sys.modules)
"""


def test_pca_filters_and_the_default_scan_do_not_load_torch(tmp_path):
    s = specml.datasets.fe_cr_ni_map((13, 14), n_channels=64, dose=300).signal  # too small for a network of maps
    clean = s.denoise_dae(context="spatial", protect=True, show_progressbar=False)
    filters = specml.denoise_model(clean).save(tmp_path / "filters")
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "pca.specml"), str(filters)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "dense True"
