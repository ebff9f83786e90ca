"""What must never lie in an artifact, made by hand: a program's header, a pickle that runs."""

from __future__ import annotations

import os
import struct
from typing import Any

ELF = struct.pack(
    "<4sBBBB8xHHIQQQIHHHHHH",
    *(b"\x7fELF", 2, 1, 1, 0, 2, 62, 1, 0x400000, 64, 0, 0, 64, 56, 1, 0, 0, 0),
)
"""The header of a program for Linux on x86-64, of 64 bytes."""
SYSTEM = f"{os.system.__module__} system"
"""How a pickle names ``os.system``."""


class Runs:
    """Unpickled, it is what a function returns when it is called."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call
