"""Train the encoders that come with the package anew: ``python -m hyperspy_specml.encoders [folder]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from hyperspy_specml.encoders._eds import FILE, STEPS, train


def main() -> None:
    """Train them, and say where they are."""
    parser = argparse.ArgumentParser(prog="python -m hyperspy_specml.encoders", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FILE.parent, help="where to write (the package)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the training ({STEPS})")
    options = parser.parse_args()
    path = train(options.steps).save(options.folder / FILE.name, overwrite=True)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
