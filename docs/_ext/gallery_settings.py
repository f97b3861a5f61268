"""What holds while a script of the gallery runs: each runs in a process that need not have read conf.py."""

from __future__ import annotations

import warnings
from typing import Any


def quiet(gallery: dict[str, Any], script: str) -> None:
    """Show no bars, and no warnings that readers can do nothing about.

    Parameters
    ----------
    gallery, script
        Settings of the gallery and the name of the script, which Sphinx-Gallery gives.
    """
    import hyperspy.api as hs
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it names folders of the machine that builds the pages
    # exspy 0.3.2 imports lazy classes from where HyperSpy 2.4 had them, and the measured map is in an old version of
    # HyperSpy's format.
    warnings.filterwarnings("ignore", message="Importing .Lazy|Loading old file version")
    hs.preferences.General.show_progressbar = False
