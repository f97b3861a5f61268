"""What every fit learns first: training data with folds, their independence, corruptions, smoothing."""

from hyperspy_specml.prepare._corruptions import CORRUPTIONS, Draws, corrupt, paired_draws
from hyperspy_specml.prepare._paired import PairedRecordings
from hyperspy_specml.prepare._smoothing import smooth_basis
from hyperspy_specml.prepare._training_data import (
    TrainingData,
    check_enough,
    prepare,
    project_parts,
    train_moments,
)
