"""Every error and warning of the package, in one tree.

Each error is also the builtin or HyperSpy class that users already catch::

    SpecMLError
    ├── SpectraRequiredError     + hyperspy.exceptions.SignalDimensionError
    ├── NavigationRequiredError  + hyperspy.exceptions.NavigationDimensionError
    ├── DataTypeError            + TypeError
    ├── ArrayShapeError          + ValueError
    ├── TooFewSpectraError       + ValueError
    ├── MaskError                + ValueError
    ├── NotCountsError           + ValueError
    │   └── NegativeCountsError
    ├── OptionError              + ValueError
    ├── PairsError               + ValueError
    ├── EnergyAxisMismatchError  + ValueError
    ├── ModelFileError           + ValueError
    │   └── ModelFileExistsError + FileExistsError
    ├── LearningResultsError     + ValueError
    ├── DataRequiredError        + ValueError
    ├── DownloadError            + OSError
    ├── NotFittedError           + ValueError, AttributeError
    ├── NotPicklableError        + TypeError
    ├── TrainingDivergedError    + RuntimeError
    └── Cancelled                + RuntimeError

    SpecMLWarning (UserWarning)
    ├── BaselineBetterWarning
    ├── LinearApproximationWarning
    ├── MaskOrderWarning
    └── RemovedSignalWarning
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from hyperspy.exceptions import NavigationDimensionError, SignalDimensionError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self


class SpecMLError(Exception):
    """Base of all errors that the package raises on purpose.

    Parameters
    ----------
    message
        The call, what came, what is needed, and the call that repairs it. The only argument, so that
        every error pickles: dask workers send them.
    """

    def __init__(self, message: str) -> None:
        # Not super(): HyperSpy's dimension errors come next and take two dimensions instead of a message.
        Exception.__init__(self, message)

    def __str__(self) -> str:
        return str(self.args[0])  # HyperSpy's __str__ reads attributes that are not set here


class SpectraRequiredError(SpecMLError, SignalDimensionError):
    """The signal does not have exactly one signal axis."""


class NavigationRequiredError(SpecMLError, NavigationDimensionError):
    """The signal has no navigation axis: it is one spectrum, not a map."""


class DataTypeError(SpecMLError, TypeError):
    """The data are not real numbers: complex, structured (RGB) or objects (ragged)."""


class ArrayShapeError(SpecMLError, ValueError):
    """An array given to an estimator does not have one spectrum or one set of scores per row."""


class TooFewSpectraError(SpecMLError, ValueError):
    """Fewer usable spectra or channels than the call needs."""


class MaskError(SpecMLError, ValueError):
    """A mask is not boolean, has the wrong shape, or masks everything."""


class NotCountsError(SpecMLError, ValueError):
    """The data are not counts, where a Poisson model or an exact split needs them."""


class NegativeCountsError(NotCountsError):
    """The data hold negative values, which counts never are."""


class OptionError(SpecMLError, ValueError):
    """An argument names an option that does not exist."""

    @classmethod
    def unknown(cls, argument: str, value: object, options: Iterable[object]) -> Self:
        """Make the error that lists the options and suggests the one that was probably meant.

        Parameters
        ----------
        argument
            Name of the argument, as in the call.
        value
            What came.
        options
            What is understood.
        """
        options = list(options)
        close = difflib.get_close_matches(str(value), map(str, options), n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        return cls(f"{argument}={value!r} is unknown; use one of {', '.join(map(repr, options))}.{guess}")


class PairsError(SpecMLError, ValueError):
    """Two signals of the same area do not have the same shape or energy axis, or one contains the other."""


class EnergyAxisMismatchError(SpecMLError, ValueError):
    """The energy axes of a model and a signal differ too much to resample the model."""


class ModelFileError(SpecMLError, ValueError):
    """A file is damaged, no model file, or written by a newer version than this one reads."""


class ModelFileExistsError(FileExistsError, ModelFileError):  # in this order, or it would not unpickle
    """A model would be saved over an existing file."""


class LearningResultsError(SpecMLError, ValueError):
    """A result cannot be written to the learning results of this signal."""


class DataRequiredError(SpecMLError, ValueError):
    """A result that was read from a file is asked for something that needs the data it was made from."""


class DownloadError(SpecMLError, OSError):
    """A measured map of others is not on this machine and could not be had from its public place."""


class NotPicklableError(SpecMLError, TypeError):
    """Results hold HyperSpy signals, which cannot be pickled."""


class NotFittedError(SpecMLError, ValueError, AttributeError):
    """An estimator is used before ``fit``."""


class TrainingDivergedError(SpecMLError, RuntimeError):
    """The training loss became infinite or NaN, also after restarts with other seeds."""


class Cancelled(SpecMLError, RuntimeError):
    """The call was cancelled by `Progress.cancel` before there was anything to keep."""


class SpecMLWarning(UserWarning):
    """Base of all warnings of the package: each says first what to do, then why, in two sentences at most."""


class BaselineBetterWarning(SpecMLWarning):
    """PCA of the same size describes the held-out counts better than the model that was asked for."""


class LinearApproximationWarning(SpecMLWarning):
    """The decoder is curved; linear components were written, which do not give all of its reconstruction."""


class MaskOrderWarning(SpecMLWarning):
    """A NumPy mask of a square map is read in array order, and would fit turned as well."""


class RemovedSignalWarning(SpecMLWarning):
    """Denoising without protection removed signal that noise cannot explain, such as a rare phase: see the report."""
