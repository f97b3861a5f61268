"""Signal in, result out: check, call, wrap."""

from hyperspy_specml.workflows._call import Call, whole_number
from hyperspy_specml.workflows._library import train_denoiser
