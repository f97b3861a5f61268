"""Measured maps of others, fetched on request from where they are public, and checked byte by byte.

Nothing else in the package uses a network, and none of these files is part of it. They are looked for in the folder
``$SPECML_DATA`` first, then in the cache of the user; what is in neither is downloaded by ``pooch``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import DownloadError, OptionError

if TYPE_CHECKING:
    from hyperspy.signal import BaseSignal

__all__ = ["MAPS", "MeasuredMap", "fetch", "load"]

# Seconds without an answer after which a server counts as unreachable.
_TIMEOUT = 20
_GITHUB = "https://raw.githubusercontent.com"
_ROSETTASCIIO = f"{_GITHUB}/hyperspy/rosettasciio/v0.14.0/rsciio/tests/data"
_LUMISPY = f"{_GITHUB}/LumiSpy/lumispy/88224c8deaf4392bd3097ba2ae34259be220aa52/lumispy/data"
_OPENNCEM = f"{_GITHUB}/ercius/openNCEM/749ec1a8456f6c84f21021908ad5019b041fb42b/ncempy/data/L2083-K-4-1"


@dataclass(frozen=True)
class MeasuredMap:
    """Where a measured map is, and what it is.

    Attributes
    ----------
    title
        What was measured, and how.
    file
        Its place below ``$SPECML_DATA`` or the cache.
    url
        Its public place, of a version that does not change.
    sha256
        Of the file.
    megabytes
        Its size.
    licence
        Of the repository that it is from.
    """

    title: str
    file: str
    url: str
    sha256: str
    megabytes: float
    licence: str


MAPS = {
    "deep_mantle": MeasuredMap(
        "STEM-EDS of a deep-mantle sample, three phases, 80 x 80 pixels",
        "espm/88_ES-LP_G8_selection2_cropped2.hspy",
        f"{_GITHUB}/adriente/espm/be48ed5e97892d130fc9fc17b84d0fd1c442bfc7/generated_datasets/"
        "88_ES-LP_G8_selection2_cropped2.hspy",
        "7b980791c8b91b523f79904f22ab309c9e46762342e6b917a3913f1311139598",
        0.7,
        "MIT",
    ),
    "fept_nanoparticles": MeasuredMap(
        "STEM-EDS of FePt nanoparticles, 84 x 84 pixels",
        "usnist-tutorial/bare_core.hspy",
        f"{_GITHUB}/usnistgov/hyperspy_tutorial/cec5807c3d3dde2b4adc8fcc1a1e7eafd4e8099b/06%20EDS/bare_core.hspy",
        "3f8f2e1e57e8a20d25522e3b49d7fee7904b410d1f921d8757c5b6696bca1876",
        0.4,
        "public domain (NIST)",
    ),
    "tilt_0": MeasuredMap(
        "STEM-EDS at few counts, 256 x 256 pixels; the next tilt is tilt_10",
        "openncem/tilt_0.bcf",
        f"{_OPENNCEM}/ConvertBrukerToEMD/Input/0.bcf",
        "b13e3d11639b1d312b4e1719cc762cacd63d96c237ea9d0c80be45a1d1a9d06e",
        3.3,
        "GPL-3.0",
    ),
    "tilt_10": MeasuredMap(
        "STEM-EDS at few counts, 256 x 256 pixels, tilted by 10 degrees",
        "openncem/tilt_10.bcf",
        f"{_OPENNCEM}/ConvertBrukerToEMD/Input/10.bcf",
        "a8c6d2cdd8a3cad8557564727a072dc7677694b45a1196a428c5f8eb12bf4f66",
        3.3,
        "GPL-3.0",
    ),
    "eds_50x50": MeasuredMap(
        "EDS with many counts, 50 x 50 pixels",
        "rosettasciio/bcf_v2_50x50px.bcf",
        f"{_ROSETTASCIIO}/bruker/bcf_v2_50x50px.bcf",
        "b3200c747c96f50dd3d58cd5cd7effedc1bf2c0304f69332335d84db78adc1ba",
        2.7,
        "GPL-3.0",
    ),
    "eds_tem": MeasuredMap(
        "TEM-EDS with few counts, 64 x 64 pixels",
        "rosettasciio/test_TEM.bcf",
        f"{_ROSETTASCIIO}/bruker/test_TEM.bcf",
        "529ae0de6de470d48c9cceabfdc505237669b09ef52b5038045fabcfde75fa92",
        0.3,
        "GPL-3.0",
    ),
    "vibrational_eels": MeasuredMap(
        "Vibrational EELS of barium titanate with the zero-loss peak, 34 x 34 pixels",
        "pangroup/Example_BTO_deleted.dm4",
        f"{_GITHUB}/PanGroup-UCI/Vibrational-EELS_background_subtraction/"
        "4e014c384e25151b01ce8aaedf233344a10a3711/Example_BTO_deleted.dm4",
        "4e19010cb2771b9fccd85480d5ee8d8d506e6e50fefd476895ba216197d39a72",
        3.8,
        "MIT",
    ),
    "cl_nanoparticles": MeasuredMap(
        "Cathodoluminescence of nanoparticles, 20 x 15 pixels",
        "lumispy/nanoparticles.hspy",
        f"{_LUMISPY}/nanoparticles.hspy",
        "5b0af31d00fffdd3f4b0af3e60cabf2ec01c4b23b5adf33bada0d7f786ff0bf1",
        0.3,
        "GPL-3.0",
    ),
    "cl_moving_peak": MeasuredMap(
        "Cathodoluminescence with a peak that moves and is not symmetric, 30 x 16 pixels",
        "lumispy/asymmetric_peak_map.hspy",
        f"{_LUMISPY}/asymmetric_peak_map.hspy",
        "ae2741d4549db45a2b27073d09861e30127e358eebf32210a53745e535074952",
        0.2,
        "GPL-3.0",
    ),
    "cl_line_scan": MeasuredMap(
        "Cathodoluminescence along a line, 67 pixels",
        "rosettasciio/test-MonoCL_spectrum-SI.dm4",
        f"{_ROSETTASCIIO}/digitalmicrograph/2D/test-MonoCL_spectrum-SI.dm4",
        "b8bda6ae96c718c0fdb63e996ce68911d4bc74f20f86cf4a6c26046412ed6132",
        0.4,
        "GPL-3.0",
    ),
    "raman_streamline": MeasuredMap(
        "Raman map on an axis that is not uniform, 45 x 49 pixels",
        "rosettasciio/renishaw_test_streamline.wdf",
        f"{_ROSETTASCIIO}/renishaw/renishaw_test_streamline.wdf",
        "857acee66c0c4fa7b009cb68f1eb6ac2493769271de0e0ef81902e64a0890f80",
        3.7,
        "GPL-3.0",
    ),
}


def fetch(name: str, *, show_progressbar: bool = False) -> Path:
    """Return the path of a measured map, which is downloaded if it is nowhere on this machine.

    Parameters
    ----------
    name
        One of ``MAPS``.
    show_progressbar
        Whether a bar shows the download.

    Returns
    -------
    pathlib.Path
        A file whose checksum is right.

    Raises
    ------
    OptionError
        An unknown name.
    ImportError
        The file is not here, and pooch is not installed.
    DownloadError
        The file is not here, and the server does not answer or gives another file.
    """
    if name not in MAPS:
        raise OptionError.unknown("specml.data: name", name, MAPS)
    wanted = MAPS[name]
    local = Path(os.environ.get("SPECML_DATA", "")) / wanted.file
    if "SPECML_DATA" in os.environ and local.is_file() and _sha256(local) == wanted.sha256:
        return local
    pooch = _pooch(name)
    place = Path(pooch.os_cache("hyperspy_specml")) / wanted.file
    downloader = pooch.HTTPDownloader(progressbar=show_progressbar, timeout=_TIMEOUT)
    try:
        found = pooch.retrieve(
            wanted.url, f"sha256:{wanted.sha256}", place.name, path=place.parent, downloader=downloader
        )
    except (OSError, ValueError) as error:  # no network, or another file than was expected
        raise DownloadError(
            f"specml.data.fetch({name!r}): {wanted.url} could not be had ({type(error).__name__}). With a network "
            f"the same call works; without one, put the file into a folder as {wanted.file}, and set SPECML_DATA to it."
        ) from error
    return Path(found)


def load(name: str, *, lazy: bool = False, show_progressbar: bool = False) -> BaseSignal:
    """Return a measured map as HyperSpy reads it.

    Parameters
    ----------
    name
        One of ``MAPS``.
    lazy
        Whether it is read block by block.
    show_progressbar
        Whether a bar shows the download.

    Returns
    -------
    hyperspy.api.signals.BaseSignal
        Of a file with several signals the one with spectra.

    Raises
    ------
    OptionError
        An unknown name.
    ImportError
        The file is not here, and pooch is not installed.
    DownloadError
        The file is not here, and the server does not answer or gives another file.

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.data.load("deep_mantle", lazy=True)  # doctest: +SKIP
    """
    import hyperspy.api as hs

    loaded = hs.load(fetch(name, show_progressbar=show_progressbar), lazy=lazy)
    signals = loaded if isinstance(loaded, list) else [loaded]
    return max(signals, key=lambda one: one.data.size)


def _pooch(name: str) -> Any:
    """Return the module pooch, which is optional."""
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"specml.data.fetch({name!r}) needs pooch, which is not installed: pip install 'hyperspy_specml[data]'."
        ) from error
    return pooch


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
