"""What every fit learns first: training data with folds, their independence, corruptions, smoothing."""

from hyperspy_specml.prepare._corruptions import CORRUPTIONS, corrupt, paired_draws
from hyperspy_specml.prepare._paired import PairedRecordings
from hyperspy_specml.prepare._prepare import Masks, check_enough, prepare
from hyperspy_specml.prepare._smoothing import smooth_basis
from hyperspy_specml.prepare._training_data import Draws, TrainingData, project_parts, train_moments
