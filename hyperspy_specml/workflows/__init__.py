"""Signal in, result out: check, call, wrap."""

from hyperspy_specml.workflows._anomaly import anomaly_map
from hyperspy_specml.workflows._call import Call, load_model
from hyperspy_specml.workflows._decomposition import decomposition_ae
from hyperspy_specml.workflows._denoising import denoise_dae, train_denoiser
from hyperspy_specml.workflows._encoder import Encoder, Novelty
from hyperspy_specml.workflows._live import LiveMonitor, LivePhases
from hyperspy_specml.workflows._phases import phase_map
from hyperspy_specml.workflows._predictor import Classified, Predictor, Regressed
from hyperspy_specml.workflows._pretrain import pretrain
from hyperspy_specml.workflows._shifts import align, estimate_shift
