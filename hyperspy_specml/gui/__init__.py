"""Tools for people who look and click: state and work without any GUI toolkit, and one view for each toolkit.

A further tool is one file with a subclass of `Tool`, a line here, and its toolkey in hyperspy_extension.yaml.
"""

from hyperspy_specml.gui._anomaly import AnomalyMap
from hyperspy_specml.gui._decomposition import DecompositionAE
from hyperspy_specml.gui._denoise import DenoiseDAE
from hyperspy_specml.gui._latent import LatentExplorer, inside
from hyperspy_specml.gui._phases import PhaseMap
from hyperspy_specml.gui._tool import Action, RunTool, Tool
