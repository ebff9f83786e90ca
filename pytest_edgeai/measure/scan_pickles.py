"""What a pickle would import, read from its opcodes: nothing is ever unpickled.

Opcodes: Lib/pickletools.py of CPython. A pickle calls what it imports, so that the imports say what
loading it can do; names that are put together on the stack and cannot be told are reported as such.
"""

from __future__ import annotations

import pickletools
import re
import warnings
from typing import IO, cast

UNKNOWN = "a name that it puts together while it is loaded"

HARMLESS = frozenset(
    {
        "collections OrderedDict",
        "_codecs encode",
        "torch Size",
        "torch device",
        "torch.nn.parameter Parameter",
        "torch.storage UntypedStorage",
        "torch.storage TypedStorage",
        *(f"{module} {name}" for module in ("builtins", "__builtin__") for name in
          ("bytearray", "complex", "dict", "frozenset", "list", "range", "set", "slice", "tuple")),
        *(f"numpy {name}" for name in ("dtype", "ndarray")),
        *(f"numpy.{core}.multiarray {name}" for core in ("core", "_core") for name in
          ("_reconstruct", "scalar")),
        *(f"numpy.{core}.numeric _frombuffer" for core in ("core", "_core")),
        *(f"torch._utils _rebuild_{name}" for name in
          ("tensor", "tensor_v2", "tensor_v3", "parameter", "qtensor", "sparse_tensor")),
        *(f"torch {kind}Storage" for kind in
          ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")),
    }
)  # fmt: skip
"""What pickles of arrays and of PyTorch's weights import (torch/_weights_only_unpickler.py): it
builds arrays and does nothing else."""

SUFFIXES = frozenset(
    {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".p", ".npy", ".bin"}
)
_STRINGS = frozenset(
    {
        "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING",
        "SHORT_BINSTRING",
    }
)  # fmt: skip
_SILENT = frozenset({"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})
_NAME = re.compile(r"[A-Za-z_][\w.]*( [A-Za-z_][\w.]*)?")
_MOST_STREAMS = 10_000
_LONGEST_NAME = 1 << 16


def may_be_pickle(start: bytes, suffix: str) -> bool:
    """Return whether a file could be a pickle, by its first bytes or by its name."""
    return (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05") or suffix in SUFFIXES


def dangerous_imports(stream: IO[bytes]) -> tuple[str, ...]:
    """Return what the pickles in a stream import beside what only builds arrays, each once.

    Args:
        stream: a file that may be a pickle, several of them in a row, or none at all.

    Returns:
        ``module name`` each; empty for harmless pickles and for what is no pickle. A pickle that
        breaks off after an import counts, because loading it runs that import.
    """
    found: dict[str, None] = {}
    skipping = _Skipping(stream)
    for _ in range(_MOST_STREAMS):
        names: list[str] = []
        with warnings.catch_warnings():
            # Escapes that Python does not know any more stand in what is no pickle.
            warnings.simplefilter("ignore")
            whole = _read_one(skipping, names)
        # Weights may look like opcodes for a while; a name of Python they hardly spell.
        found.update((name, None) for name in names if whole or _NAME.fullmatch(name))
        if not whole:
            break
    return tuple(name for name in found if name not in HARMLESS)


class _Skipped(bytes):
    """Bytes that were not read, and know how many they are."""

    length = 0

    def __len__(self) -> int:
        return self.length


class _Skipping:
    """A stream that passes over long arguments, which are weights and never names."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        start = stream.tell()
        self._end = stream.seek(0, 2)
        stream.seek(start)
        self.tell = stream.tell
        self.readline = stream.readline

    def read(self, count: int) -> bytes:
        if count <= _LONGEST_NAME or count > self._end - self._stream.tell():
            return self._stream.read(min(count, _LONGEST_NAME))
        self._stream.seek(count, 1)
        skipped = _Skipped()
        skipped.length = count
        return skipped


def _read_one(stream: _Skipping, names: list[str]) -> bool:
    """Append what one pickle imports to ``names``; return whether it ended as a pickle does."""
    pushed: list[str | None] = []
    memo: dict[int, str | None] = {}
    try:
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], stream)):
            name = opcode.name
            if name in _STRINGS:
                pushed.append(str(argument))
            elif name in ("GLOBAL", "INST"):
                names.append(str(argument))
                pushed.append(None)
            elif name == "STACK_GLOBAL":
                module, attribute = [None, None, *pushed][-2:]
                known = module is not None and attribute is not None
                names.append(f"{module} {attribute}" if known else UNKNOWN)
                pushed.append(None)
            elif name in ("EXT1", "EXT2", "EXT4"):
                names.append(UNKNOWN)
                pushed.append(None)
            elif name == "MEMOIZE":
                memo[len(memo)] = pushed[-1] if pushed else None
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[int(argument or 0)] = pushed[-1] if pushed else None
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                pushed.append(memo.get(int(argument or 0)))
            elif name not in _SILENT:
                pushed.append(None)
            # Only the last two count, and what is memoized is kept apart.
            del pushed[:-8]
    # genops raises whatever its readers of arguments run into.
    except (ValueError, OverflowError, MemoryError, UnicodeError, AttributeError, IndexError):
        return False
    return True
