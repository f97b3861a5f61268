"""Networks: arithmetic on tensors, nothing else."""

from hyperspy_specml.nn._dense import DenseNetwork
from hyperspy_specml.nn._mixture import FilterMixture

__all__ = ["DenseNetwork", "FilterMixture"]
