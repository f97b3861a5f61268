"""One training loop for every network; its configuration is free of torch."""

from hyperspy_specml.train.config import TrainConfig

__all__ = ["TrainConfig"]
