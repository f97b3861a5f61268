"""Networks: arithmetic on tensors, nothing else."""

from hyperspy_specml.nn._dense import DenseNetwork

__all__ = ["DenseNetwork"]
