"""X-ray spectra of an energy-dispersive detector."""

from __future__ import annotations

from pathlib import Path

import hyperspy.api as hs
import numpy as np

from hyperspy_specml.run import TrainConfig
from hyperspy_specml.workflows import Encoder, pretrain

FILE = Path(__file__).parent / "eds.specml"
STEPS = 2000
# Elements that a random sample has a few of.
_ELEMENTS = (
    "C N O F Na Mg Al Si P S Cl K Ca Ti V Cr Mn Fe Co Ni Cu Zn Ga As Se Sr Y Zr Nb Mo Ag Sn Sb Ba La Ce W Pt Au Pb"
).split()
# Channels, and their width in keV.
_CHANNELS, _WIDTH = 2048, 0.01


def eds() -> Encoder:
    """Return an encoder of X-ray spectra, trained on simulated ones of 40 elements, from 0 to 20 keV.

    Of a few elements each, with random compositions, absorption, backgrounds, resolutions of 120 to 150 eV at Mn Ka,
    calibrations within some eV, and 20 to 3,000 counts. It knows nothing of your detector but that.

    Returns
    -------
    Encoder
        4 layers of 128, patches of 32 channels; `Encoder.embed`, `fine_tune` and `novelty` take EDS spectra of any
        dispersion and length, which it sees from 0 to 20 keV.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> specml.encoders.eds().embed(s)
    <BaseSignal, title: Latents of Simulated Fe-Cr-Ni map, dimensions: (128|16, 16)>
    """
    return Encoder.load(FILE)


def train(steps: int = STEPS) -> Encoder:
    """Return the encoder trained anew, from its seed, in one thread.

    Parameters
    ----------
    steps
        Of 128 spectra.
    """
    energy = {"name": "Energy", "units": "keV", "scale": _WIDTH, "size": _CHANNELS, "navigate": False}
    signal = hs.signals.Signal1D(np.zeros((2, _CHANNELS), np.uint16), axes=[{"size": 2, "navigate": True}, energy])
    signal.set_signal_type("EDS_TEM")
    signal.metadata.set_item("Sample.elements", sorted(_ELEMENTS))
    return pretrain([signal], "simulated", config=TrainConfig(max_steps=steps), random_state=0, device="cpu")
