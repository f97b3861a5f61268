"""The decompositions as estimators on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperspy_specml.decompose._array_base import ArrayEstimator

if TYPE_CHECKING:
    import numpy as np

    from hyperspy_specml.run import TrainConfig


class NoiseWeightedPCA(ArrayEstimator):
    """Principal components of spectra whose channels are weighted by their noise.

    ``s.decomposition(algorithm=NoiseWeightedPCA(4), output_dimension=4)`` works.

    Parameters
    ----------
    n_components
        Components K. By default chosen by held-out counts.
    noise
        "auto", "poisson", "gaussian" or "poisson-gaussian".
    random_state
        Seed of the folds and of the sample of spectra.
    config
        ``hyperspy_specml.TrainConfig``, for ``centre`` and ``memory_budget``.

    Attributes
    ----------
    components_
        (K, E) component spectra: ``X = scores @ components_ + offset_``, and noise. NaN in channels left out.
    offset_
        (E,) mean spectrum if ``config.centre``, else zeros.
    explained_variance_, explained_variance_ratio_
        (K,) variance along each component in units of the noise variance, and its share of that of the data.
    scree_, noise_edge_
        All eigenvalues, and the largest that noise alone makes.
    n_components_, n_features_in_
        K and E.
    decomposition_
        What else the fit found out: noise model, rank curve, states of spectra and channels.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_specml.decompose import NoiseWeightedPCA
    >>> mean = np.outer(np.linspace(1, 2, 200), np.hanning(50)) + np.linspace(0.1, 1, 50)
    >>> pca = NoiseWeightedPCA(2).fit(np.random.default_rng(0).poisson(50 * mean))
    >>> pca.components_.shape
    (2, 50)
    """

    _architecture = "pca"

    def __init__(
        self,
        n_components: int | None = None,
        *,
        noise: str = "auto",
        random_state: int = 0,
        config: TrainConfig | None = None,
    ) -> None:
        self.n_components = n_components
        self.noise = noise
        self.random_state = random_state
        self.config = config

    @property
    def components_(self) -> np.ndarray:
        """(K, E) component spectra."""
        return self._expand(self._fitted("components_").model.components())

    @property
    def offset_(self) -> np.ndarray:
        """(E,) what is subtracted first."""
        return self._expand(self._fitted("offset_").prepared.basis.offset[None])[0]

    @property
    def scree_(self) -> np.ndarray:
        """(E in use,) all eigenvalues."""
        return self._fitted("scree_").prepared.basis.eigenvalues

    @property
    def noise_edge_(self) -> float:
        """Largest eigenvalue that noise alone makes."""
        return self._fitted("noise_edge_").prepared.edge

    @property
    def explained_variance_(self) -> np.ndarray:
        """(K,) variance along each component, in units of the noise variance."""
        return self.scree_[: self.n_components_]

    @property
    def explained_variance_ratio_(self) -> np.ndarray:
        """(K,) share of the whitened variance."""
        return self.explained_variance_ / self.scree_.sum()


class DenseAutoencoder(ArrayEstimator):
    """A dense autoencoder of spectra, trained on split counts and stopped by held-out ones.

    Its decoder is curved, so it has no ``components_`` and HyperSpy's ``s.decomposition`` refuses it;
    ``s.decomposition_ae().to_learning_results(s)`` writes linear components instead.

    Parameters
    ----------
    n_components
        Latents K. By default chosen by held-out counts.
    noise
        "auto", "poisson", "gaussian" or "poisson-gaussian".
    random_state
        Seed of the folds, the sample of spectra, the weights and the batches.
    device
        "auto", "cpu", "cuda", "mps".
    config
        ``hyperspy_specml.TrainConfig``.

    Attributes
    ----------
    responses_
        (K, E) half the change of the decoded spectrum from -1 to +1 standard deviation of one score.
    n_components_, n_features_in_
        K and E.
    decomposition_
        What else the fit found out: noise model, PCA baseline, held-out scores of the candidates, training.
    """

    _architecture = "dense"

    def __init__(
        self,
        n_components: int | None = None,
        *,
        noise: str = "auto",
        random_state: int = 0,
        device: str = "auto",
        config: TrainConfig | None = None,
    ) -> None:
        self.n_components = n_components
        self.noise = noise
        self.random_state = random_state
        self.device = device
        self.config = config

    @property
    def responses_(self) -> np.ndarray:
        """(K, E) what one score does to the spectrum."""
        return self._expand(self._fitted("responses_").model.components())
