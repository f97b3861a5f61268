"""Warnings of one thread, collected while others go on as they were."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hyperspy_specml.exceptions import SpecMLWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_collected: dict[int, list[str]] = {}  # by thread
_outer: list[Any] = []  # what `warnings` was before the first tool began


@contextmanager
def collected() -> Iterator[list[str]]:
    """Collect our warnings of this thread as texts, instead of printing or raising them."""
    here = threading.get_ident()
    with _lock:
        if not _collected:  # the filters are the process's own: only the first may save them, the last restores
            saved = warnings.catch_warnings()
            saved.__enter__()
            _outer[:] = [saved, warnings.showwarning]
            warnings.simplefilter("always", SpecMLWarning)
            warnings.showwarning = _sort
        _collected[here] = []
    try:
        yield _collected[here]
    finally:
        with _lock:
            del _collected[here]
            if not _collected:
                _outer[0].__exit__(None, None, None)


def _sort(message: Any, *args: Any, **kwargs: Any) -> None:
    texts = _collected.get(threading.get_ident())
    if texts is None:
        _outer[1](message, *args, **kwargs)
    else:
        texts.append(str(message))
