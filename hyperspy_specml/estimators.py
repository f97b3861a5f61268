"""The decompositions as estimators on arrays, with the methods that scikit-learn's have.

scikit-learn is not needed. Its ``clone`` and pipelines, and HyperSpy's ``s.decomposition(algorithm=...)``,
know estimators by their methods. No attribute is called ``mean_``: HyperSpy 2.5 would add it to the data.
"""

from __future__ import annotations

import inspect
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperspy_specml.decompose import Decomposition, DenseOptions, PCAOptions, choose_architecture, decompose
from hyperspy_specml.exceptions import ArrayShapeError, DataTypeError, NotFittedError, OptionError
from hyperspy_specml.models import encode_map
from hyperspy_specml.run import Run, TrainConfig
from hyperspy_specml.statistics import expand_channels
from hyperspy_specml.streaming import SpectrumStream
from hyperspy_specml.train import device_for

if TYPE_CHECKING:
    from typing import Self

    import dask.array as da

    from hyperspy_specml.decompose import Architecture

__all__ = ["DenseAutoencoder", "NoiseWeightedPCA"]


@dataclass(repr=False, eq=False)
class ArrayEstimator:
    """Base: parameters as attributes of the same names, what is learnt as attributes that end in _.

    n spectra, E channels, K components.
    """

    n_components: int | None = None
    _: KW_ONLY
    noise: str = "auto"
    random_state: int = 0
    config: TrainConfig | None = None
    device = "auto"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name.

        Parameters
        ----------
        deep
            Without meaning here: no parameter has parameters.
        """
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name and return the estimator.

        Parameters
        ----------
        **params
            Any of those that `get_params` returns.

        Raises
        ------
        OptionError
            There is no such parameter.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise OptionError.unknown(f"{type(self).__name__}.set_params", name, known)
            setattr(self, name, value)
        return self

    def fit(self, X: np.ndarray | da.Array, y: None = None) -> Self:
        """Fit to spectra, read block by block.

        Parameters
        ----------
        X
            (n, E) spectra, NumPy or dask, in any real dtype. Best raw counts.
        y
            Ignored: what a pipeline passes on.

        Returns
        -------
        the estimator itself

        Raises
        ------
        ArrayShapeError, DataTypeError
            Not two axes; not real numbers.
        OptionError, TooFewSpectraError, NegativeCountsError, NotCountsError, TrainingDivergedError
            See ``Signal1D.decomposition_ae``.
        """
        array = _spectra(X, self._call("fit"))
        architecture = self._architecture()
        config, name = self.config or TrainConfig(), type(self).__name__
        device = device_for(name, self.device, config.of_training(), trained=architecture.trained)
        run = Run(config, self.random_state, device)
        stream, asked = SpectrumStream(array, run.config.memory_budget), self.n_components
        self.decomposition_ = decompose(stream, run, architecture=architecture, n_components=asked, noise=self.noise)
        self.n_features_in_ = array.shape[1]
        self.n_components_ = self.decomposition_.model.n_components
        return self

    def transform(self, X: np.ndarray | da.Array) -> np.ndarray:
        """Return the (n, K) float32 scores of spectra, in memory also for dask arrays.

        NaN for spectra with values that are not finite, 0 for empty ones.

        Parameters
        ----------
        X
            (n, E) spectra.

        Raises
        ------
        NotFittedError
            `fit` was not called.
        ArrayShapeError, DataTypeError
            Not the E channels of the fit; not real numbers.
        """
        found = self._fitted("transform")
        array = _spectra(X, self._call("transform"))
        if array.shape[1] != self.n_features_in_:
            raise ArrayShapeError(
                f"{self._call('transform')}: X has {array.shape[1]} features, but {type(self).__name__} is "
                f"expecting {self.n_features_in_} features as input, the channels that it was fitted on."
            )
        budget = (self.config or TrainConfig()).memory_budget
        (scores,), _ = encode_map(SpectrumStream(array, budget), (found.model,), found.prepared.summary.channels)
        return scores[:, : self.n_components_]

    def fit_transform(self, X: np.ndarray | da.Array, y: None = None) -> np.ndarray:
        """Fit, and return the (n, K) scores of the same spectra; see `fit` and `transform`.

        Parameters
        ----------
        X
            (n, E) spectra.
        y
            Ignored.
        """
        return self.fit(X).decomposition_.scores[:, : self.n_components_]

    def inverse_transform(self, scores: np.ndarray | da.Array) -> np.ndarray | da.Array:
        """Return the (n, E) float32 spectra of scores; of a dask array as a graph.

        NaN in channels that the fit left out, 0 in dead ones. Of counts, an autoencoder gives each spectrum the
        intensity that usually goes with its scores.

        Parameters
        ----------
        scores
            (n, K), NumPy or dask.

        Raises
        ------
        NotFittedError
            `fit` was not called.
        ArrayShapeError
            Not K scores in each row.
        """
        self._fitted("inverse_transform")
        if getattr(scores, "ndim", 0) != 2 or scores.shape[1] != self.n_components_:
            raise ArrayShapeError(
                f"{self._call('inverse_transform')} needs (n, {self.n_components_}) scores, but has shape "
                f"{np.shape(scores)}."
            )
        if isinstance(scores, np.ndarray):
            return self._decode(scores)
        meta = np.empty((0, 0), np.float32)
        rows = scores.rechunk({1: -1})
        return rows.map_blocks(self._decode, chunks=(rows.chunks[0], (self.n_features_in_,)), meta=meta)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "decomposition_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        kept = TransformerTags(preserves_dtype=["float32"])
        return Tags(None, TargetTags(required=False), transformer_tags=kept, input_tags=InputTags(allow_nan=True))

    def __repr__(self) -> str:
        """Return the call that makes the estimator, without the defaults."""
        defaults = inspect.signature(type(self)).parameters
        said = {k: v for k, v in self.get_params().items() if v is not defaults[k].default}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in said.items())})"

    def _decode(self, scores: np.ndarray) -> np.ndarray:
        return self._expand(self.decomposition_.model.decode(scores))

    def _architecture(self) -> Architecture:
        """Return the architecture with its options."""
        raise NotImplementedError

    def _expand(self, spectra: np.ndarray) -> np.ndarray:
        return expand_channels(spectra, self.decomposition_.prepared.summary.channel_state)

    def _fitted(self, method: str) -> Decomposition:
        if not hasattr(self, "decomposition_"):
            raise NotFittedError(f"{self._call(method)} needs a fit first: call fit or fit_transform.")
        return self.decomposition_

    def _call(self, method: str) -> str:
        return f"{type(self).__name__}.{method}()"


@dataclass(repr=False, eq=False)
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
    centre
        Subtract the mean spectrum first (the textbook's), not only whiten (HyperSpy's default).
    config
        ``hyperspy_specml.TrainConfig``, for ``memory_budget``.

    Attributes
    ----------
    components_
        (K, E) component spectra: ``X = scores @ components_ + offset_``, and noise. NaN in channels left out.
    offset_
        (E,) mean spectrum if ``centre``, else zeros.
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
    >>> from hyperspy_specml.estimators import NoiseWeightedPCA
    >>> mean = np.outer(np.linspace(1, 2, 200), np.hanning(50)) + np.linspace(0.1, 1, 50)
    >>> pca = NoiseWeightedPCA(2).fit(np.random.default_rng(0).poisson(50 * mean))
    >>> pca.components_.shape
    (2, 50)
    """

    _: KW_ONLY
    centre: bool = False

    def _architecture(self) -> Architecture:
        return choose_architecture("pca", PCAOptions(centre=self.centre))

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


@dataclass(repr=False, eq=False)
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
    options
        ``hyperspy_specml.DenseOptions``: size of the network, and whether spectra are centred.
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

    _: KW_ONLY
    device: str = "auto"
    options: DenseOptions | None = None

    def _architecture(self) -> Architecture:
        return choose_architecture("dense", self.options, method="DenseAutoencoder")

    @property
    def responses_(self) -> np.ndarray:
        """(K, E) what one score does to the spectrum."""
        return self._expand(self._fitted("responses_").model.components())


def _spectra(values: Any, call: str) -> np.ndarray | da.Array:
    """Return the spectra as a NumPy or dask array with two axes."""
    if hasattr(values, "toarray"):
        raise DataTypeError(f"{call} does not take sparse arrays: pass X.toarray().")
    array = values if hasattr(values, "dask") else np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise DataTypeError(f"{call} needs real numbers, but got {array.dtype}: X.astype('float32').")
    if array.ndim != 2:
        raise ArrayShapeError(
            f"{call} needs one spectrum per row, (n, E), but got shape {array.shape}. Reshape your data "
            "first: X.reshape(-1, X.shape[-1])."
        )
    if 0 in array.shape:
        what = "sample" if array.shape[0] == 0 else "feature"
        raise ArrayShapeError(f"{call} got 0 {what}(s) (shape={array.shape}) while a minimum of 1 is required.")
    return array
