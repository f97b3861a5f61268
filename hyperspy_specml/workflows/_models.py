"""Trained models from files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperspy_specml.models import TrainedModel

if TYPE_CHECKING:
    import os


def load_model(path: str | os.PathLike[str]) -> TrainedModel:
    """Load a model that ``save(path)`` saved: of a decomposition, a denoiser or an anomaly map; no code of it is run.

    Parameters
    ----------
    path
        Where it is.

    Raises
    ------
    ModelFileError
        The file is damaged, cut off, something else, or newer than this version reads.
    FileNotFoundError
        There is no such file.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> dec = s.decomposition_ae(3, architecture="pca", show_progressbar=False)
    >>> path = dec.model.save("steel", overwrite=True)
    >>> specml.load_model(path)
    <TrainedModel pca, K = 3, 256 channels, of 'Simulated Fe-Cr-Ni map'>
    """
    # Each of these defines kinds of models and their reports.
    import hyperspy_specml.anomaly
    import hyperspy_specml.decompose
    import hyperspy_specml.denoise  # noqa: F401

    return TrainedModel.load(path)
