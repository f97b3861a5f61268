"""Phases on arrays: mixtures of spectra with a spatial prior, their number, known phases again, pictures."""

from hyperspy_specml.latent._by_latents import Latents, find_phases_of_latents
from hyperspy_specml.latent._choose import Choice, Folds, best_strength, choose, one_phase
from hyperspy_specml.latent._compress import compression
from hyperspy_specml.latent._grid import Grid, posterior, predicted_strength
from hyperspy_specml.latent._laws import Law, LineLaw, MultinomialLaw
from hyperspy_specml.latent._mixture import Classes, Data, Mixture, classify, fit, held_out_scores
from hyperspy_specml.latent._model import PhaseModel
from hyperspy_specml.latent._reject import drawn, tail_probability
from hyperspy_specml.latent._run import NONE_OF_THESE, Phases, PhaseTask, find_phases, recognise_phases
from hyperspy_specml.latent._table import FRACTIONS, Recipe
from hyperspy_specml.latent._view import VIEW_METHODS, umap_coordinates
