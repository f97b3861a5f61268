"""Libraries that are loaded when they are first used: torch takes a second or two and half a gigabyte of memory."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _Lazy(ModuleType):
        """A library by its name, imported when something of it is asked for; ``sys.modules`` has the real one."""

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self.__name__), name)

    torch = _Lazy("torch")
