"""While a scan runs, on arrays: phases discovered, what may be unseen, changes over frames, where to look longer."""

from hyperspy_specml.live._autoencoder import OnlineAutoencoder
from hyperspy_specml.live._coverage import ORDERS, UnseenArea, scan_order, unseen_area
from hyperspy_specml.live._dwell import dwell_times
from hyperspy_specml.live._events import Damage, EnergyDrift, Event, IntensityChange, NewPhase
from hyperspy_specml.live._library import Library
from hyperspy_specml.live._moments import StreamedMoments
from hyperspy_specml.live._monitor import Monitor
from hyperspy_specml.live._novelty import find_new
from hyperspy_specml.live._setup import Known, Setup
from hyperspy_specml.live._spectra import Spectra
from hyperspy_specml.live._state import monitor_of, state_of
from hyperspy_specml.live._trend import Trend, limit_of, null_maxima, trend
from hyperspy_specml.live._windows import Windows, windows_of
