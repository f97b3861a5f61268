"""While a scan runs, on arrays: phases discovered, what may be unseen, changes over frames, where to look longer."""

from hyperspy_specml.live._coverage import ORDERS, UnseenArea, scan_order
from hyperspy_specml.live._dwell import dwell_times
from hyperspy_specml.live._events import Damage, EnergyDrift, Event, IntensityChange, NewPhase
from hyperspy_specml.live._library import Library
from hyperspy_specml.live._monitor import Known, Monitor, Setup
