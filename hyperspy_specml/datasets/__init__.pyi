from ._alloy import RarePhase as RarePhase
from ._alloy import fe_cr_ni_map as fe_cr_ni_map
from ._iron_edge import ShiftedEdge as ShiftedEdge
from ._iron_edge import fe_l_library as fe_l_library
from ._iron_edge import fe_l_map as fe_l_map
from ._iron_edge import fe_l_spectra as fe_l_spectra
from ._simulated import SimulatedMap as SimulatedMap
