"""What every fit learns first: training data with folds, their independence, corruptions, smoothing."""

from hyperspy_specml.prepare._corruptions import CORRUPTIONS, PairedRecordings, corrupt
from hyperspy_specml.prepare._moves import Moves
from hyperspy_specml.prepare._prepare import Masks, check_enough, prepare, smooth_basis
from hyperspy_specml.prepare._shifts import LearntShifts, ShiftModel, ShiftTask, learn_shifts
from hyperspy_specml.prepare._training_data import Draws, TrainingData, project_parts
from hyperspy_specml.prepare._transfer import (
    MOST_SHIFTED,
    MOST_STRETCHED,
    Alignment,
    described,
    deviances_under,
    find_alignment,
)
