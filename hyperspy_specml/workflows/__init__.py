"""Signal in, result out: check, call, wrap."""

from hyperspy_specml.workflows._anomaly import AskedAnomalies, anomalies
from hyperspy_specml.workflows._call import Call, n_components, whole_number, yes_or_no
from hyperspy_specml.workflows._decomposition import AskedDecomposition, decomposition
from hyperspy_specml.workflows._denoising import denoising
from hyperspy_specml.workflows._library import train_denoiser
from hyperspy_specml.workflows._models import load_model
