"""Encoders that come with the package, trained on simulated spectra alone.

``python -m hyperspy_specml.encoders`` trains them anew, from their seeds: on processors of one kind with the same
weights bit for bit.
"""

from hyperspy_specml.encoders._eds import eds

__all__ = ["eds"]
