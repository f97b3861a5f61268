"""Phases on arrays: mixtures of spectra with a spatial prior, their number, known phases again, pictures."""

from hyperspy_specml.latent._choose import Choice
from hyperspy_specml.latent._model import PhaseModel
from hyperspy_specml.latent._run import NONE_OF_THESE, Phases, PhaseTask, find_phases, recognise_phases
from hyperspy_specml.latent._view import VIEW_METHODS, umap_coordinates
