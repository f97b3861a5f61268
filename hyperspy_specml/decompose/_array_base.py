"""What the estimators on arrays have in common: the methods that scikit-learn's have.

scikit-learn is not needed. Its ``clone`` and pipelines, and HyperSpy's ``s.decomposition(algorithm=...)``,
know estimators by their methods. No attribute is called ``mean_``: HyperSpy 2.5 would add it to the data.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hyperspy_specml.decompose._run import Decomposition, decompose
from hyperspy_specml.exceptions import ArrayShapeError, DataTypeError, NotFittedError, OptionError
from hyperspy_specml.models import apply_models
from hyperspy_specml.run import TrainConfig
from hyperspy_specml.statistics import expand_channels
from hyperspy_specml.streaming import SpectrumStream

if TYPE_CHECKING:
    from typing import Self

    import dask.array as da


class ArrayEstimator:
    """Base: parameters as attributes of the same names, what is learnt as attributes that end in _.

    n spectra, E channels, K components.
    """

    _architecture: ClassVar[str]

    n_components: int | None
    noise: str
    random_state: int
    config: TrainConfig | None
    decomposition_: Decomposition

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
        config, array = self.config or TrainConfig(), _spectra(X, self._call("fit"))
        self.decomposition_ = decompose(
            SpectrumStream(array, config.memory_budget),
            architecture=self._architecture, n_components=self.n_components, noise=self.noise, config=config,
            seed=self.random_state, device=getattr(self, "device", "cpu"),
        )  # fmt: skip
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
        (scores,), _ = apply_models(SpectrumStream(array, budget), (found.model,), found.channels)
        return scores

    def fit_transform(self, X: np.ndarray | da.Array, y: None = None) -> np.ndarray:
        """Fit, and return the (n, K) scores of the same spectra; see `fit` and `transform`.

        Parameters
        ----------
        X
            (n, E) spectra.
        y
            Ignored.
        """
        return self.fit(X).decomposition_.scores

    def inverse_transform(self, scores: np.ndarray | da.Array) -> np.ndarray | da.Array:
        """Return the (n, E) float32 spectra of scores; of a dask array as a graph.

        NaN in channels that the fit left out, 0 in dead ones and where all scores are 0.

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

        return Tags(
            estimator_type=None, target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float32"]),
            input_tags=InputTags(allow_nan=True),
        )  # fmt: skip

    def __repr__(self) -> str:
        """Return the call that makes the estimator, without the defaults."""
        defaults = inspect.signature(type(self)).parameters
        said = {k: v for k, v in self.get_params().items() if v is not defaults[k].default}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in said.items())})"

    def _decode(self, scores: np.ndarray) -> np.ndarray:
        spectra = self.decomposition_.model.decode(scores)
        spectra[~scores.any(axis=1)] = 0
        return self._expand(spectra)

    def _expand(self, spectra: np.ndarray) -> np.ndarray:
        return expand_channels(spectra, self.decomposition_.prepared.summary.channel_state)

    def _fitted(self, method: str) -> Decomposition:
        if not hasattr(self, "decomposition_"):
            raise NotFittedError(f"{self._call(method)} needs a fit first: call fit or fit_transform.")
        return self.decomposition_

    def _call(self, method: str) -> str:
        return f"{type(self).__name__}.{method}()"


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
        raise ArrayShapeError(
            f"{call} got 0 {what}(s) (shape={array.shape}) while a minimum of 1 is required."
        )
    return array
