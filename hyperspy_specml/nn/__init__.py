"""Networks: from tensors to tensors, without data or training."""

from hyperspy_specml.nn._chart import Chart, Charted
from hyperspy_specml.nn._conv import ConvNetwork
from hyperspy_specml.nn._dense import DenseNetwork, Shrinkage
from hyperspy_specml.nn._mixture import FilterMixture
from hyperspy_specml.nn._patches import (
    MaskedAutoencoder,
    PatchEncoder,
    WithHead,
    adapt,
    energy_code,
    products,
    with_products,
)
from hyperspy_specml.nn._simplex import SimplexNetwork
from hyperspy_specml.nn._vae import VariationalNetwork
