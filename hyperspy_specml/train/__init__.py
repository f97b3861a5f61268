"""Trainer, batches, losses and devices: what every network is trained with."""

from hyperspy_specml.train._batches import (
    Batch,
    BatchSource,
    DrawnCounts,
    DrawnInputs,
    MixtureLikelihood,
    RandomRows,
    ScoresAndCounts,
    SplitParts,
    TileCrops,
    TilePair,
    reconstruction_error,
    squared_error,
    squared_error_of_maps,
)
from hyperspy_specml.train._trainer import (
    History,
    Trainer,
    choose_device,
    device_for,
    fit,
    one_thread,
    refit,
    without_compiler,
)
