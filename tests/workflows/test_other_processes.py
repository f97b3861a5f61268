"""Pools of workers that are forks of a process whose threads they do not have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing

import dask
import hyperspy.api as hs
import numpy as np
import hyperspy_specml as specml

hs.preferences.General.show_progressbar = False
quick = specml.TrainConfig(max_steps=3)
s = specml.datasets.fe_cr_ni_map((7, 11), n_channels=48).signal

def scores(n_workers, **how):
    with dask.config.set(num_workers=n_workers):
        return s.decomposition_ae(2, **how).scores.data

def all_scores(_):
    pca, dense = {"architecture": "pca"}, {"config": quick}
    return [scores(*one, **how) for one, how in (((2,), pca), ((None,), pca), ((None,), dense))]

here = all_scores(0)
with multiprocessing.get_context("fork").Pool(1) as pool:
    there = pool.map_async(all_scores, [0]).get(timeout=300)[0]
for one, other in zip(here, there):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
print("the same")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_worker_gives_the_result_of_its_parent():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert found.stdout == "the same\n", found.stderr
