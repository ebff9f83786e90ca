"""llama.cpp through its C interface: what it logs, loading a file, tokenizing text.

Source: https://github.com/ggml-org/llama.cpp, include/llama.h; ``llama_cpp.llama_*`` are its
functions one to one (https://llama-cpp-python.readthedocs.io, "Low Level API").
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.gguf_file import read_gguf
from pytest_edgeai.assess.structure import ModelStructure
from pytest_edgeai.errors import ModelError, UserError

# Threads of libgomp spin while they wait for each other, for milliseconds by default, and then cost
# each other whole time slices whenever the machine does something else. 10,000 turns cover the gaps
# inside of one token. The library reads the setting while it is loaded: import it from here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# An assertion that fails would start a debugger.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

import llama_cpp as llama_cpp

_MOST_LINES = 20_000
_MOST_BLOCKS, _MOST_EXPERTS = 512, 1024  # llama-hparams.h: LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS
_DEBUG, _ERROR, _CONTINUED = 1, 4, 5  # ggml.h: enum ggml_log_level
_PLACE = re.compile(r"^(?:[\w:~<>]+: )+")
_NOISE = ("failed to load model", "exiting", "llama_model_load_from_file")


class Log:
    """The lines that llama.cpp reports, less those for debugging, kept instead of printed.

    Attributes:
        listeners: called with every whole line; what they raise is lost inside of C code.
    """

    def __init__(self) -> None:
        """Start with no line."""
        self._lines: deque[tuple[int, str]] = deque(maxlen=_MOST_LINES)
        self._open = ""
        self._level = 0
        self.listeners: list[Callable[[str], None]] = []

    def add(self, level: int, raw: bytes) -> None:
        """Add a piece of text, which may be a part of a line or several lines."""
        if level != _CONTINUED:
            self._level = level
        if self._level == _DEBUG:
            return
        self._open += raw.decode("utf-8", "replace")
        *whole, self._open = self._open.split("\n")
        for line in whole:
            self._lines.append((self._level, line.rstrip()))
            for listener in self.listeners:
                listener(line)

    def clear(self) -> None:
        """Forget every line."""
        self._lines.clear()
        self._open = ""

    def lines(self) -> list[str]:
        """Return the lines since :meth:`clear`."""
        return [line for _, line in self._lines]

    def why(self) -> str:
        """Return the first error, in llama.cpp's own words; empty without one."""
        for level, line in self._lines:
            text = _PLACE.sub("", line).removeprefix("error loading model: ").strip()
            if level == _ERROR and text and not any(noise in line for noise in _NOISE):
                return text[:300]
        return next((line[:300] for level, line in self._lines if level == _ERROR), "")


LOG = Log()
"""What llama.cpp reported in this process."""


def _keep(level: int, text: bytes, _: object) -> None:
    LOG.add(level, text)


# It must live as long as the process: llama.cpp logs while it is unloaded.
_CALLBACK: Any = llama_cpp.llama_log_callback(_keep)


def start() -> None:
    """Start llama.cpp, its log kept in :data:`LOG`."""
    llama_cpp.llama_log_set(_CALLBACK, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()


def available_cpus() -> int:
    """Return the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_file(path: Path, *, mapped: bool, vocabulary_only: bool = False) -> Any:
    """Load a GGUF file for the CPU; the caller frees it with ``llama_model_free``.

    Args:
        path: the file; of a split model the first one.
        mapped: whether weights are mapped from the file instead of read.
        vocabulary_only: whether the weights are left out.

    Raises:
        ModelError: the file is damaged, or llama.cpp does not run it.
    """
    if path.is_dir():
        raise ModelError(
            "llama.cpp runs GGUF files, and this is a directory",
            where=str(path),
            advice='Convert it first: the scheme "convert" writes a GGUF file',
        )
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    read_runnable(path)
    parameters = llama_cpp.llama_model_default_params()
    # With an empty list of devices there is nothing to offload to.
    no_device = (ctypes.c_void_p * 1)(None)
    wanted = {
        "devices": ctypes.addressof(no_device),
        "n_gpu_layers": 0,
        "vocab_only": vocabulary_only,
        "load_mode": (llama_cpp.LLAMA_LOAD_MODE_MMAP if mapped else llama_cpp.LLAMA_LOAD_MODE_NONE),
        "lazy_mode": llama_cpp.LLAMA_LAZY_MODE_OFF,
    }
    for name, value in wanted.items():
        set_parameter(parameters, name, value)
    LOG.clear()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
    if model:
        return model
    raise ModelError(
        f"llama.cpp does not run the model: {LOG.why() or 'it gives no reason'}", where=str(path)
    )


def read_runnable(path: Path) -> ModelStructure:
    """Read a GGUF file's structure; refuse what would fail one of llama.cpp's assertions.

    A failed assertion ends the process. Source: ``llama_model_base::load_hparams`` in
    src/llama-model.cpp.

    Raises:
        ModelError: as :func:`pytest_edgeai.assess.gguf_file.read_gguf`; if the number of blocks or
            experts is impossible.
    """
    structure = read_gguf(path)
    facts = structure.language
    if facts is None:
        return structure
    checks = (
        ("block_count", facts.layers or 0, 1, _MOST_BLOCKS),
        ("expert_count", facts.experts, 0, _MOST_EXPERTS),
        ("expert_used_count", facts.experts_per_token, min(facts.experts, 1), facts.experts),
    )
    for key, value, least, most in checks:
        if not least <= value <= most:
            raise ModelError(
                f"{facts.family}.{key} is {value}",
                where=str(path),
                allowed=f"{least} to {most}",
                advice="Convert the model again",
            )
    return structure


def set_parameter(parameters: Any, name: str, value: object) -> None:
    """Set a field of one of llama.cpp's structures.

    ctypes takes any attribute without a word, and llama.cpp would never see it.

    Raises:
        UserError: this version of llama-cpp-python has no such field.
    """
    if name not in {field for field, *_ in parameters._fields_}:
        raise UserError(
            f'llama-cpp-python {llama_cpp.__version__} has no parameter "{name}"',
            advice='Install the version that "pytest-edgeai[cross]" asks for',
        )
    setattr(parameters, name, value)


@contextmanager
def vocabulary_of(path: Path) -> Iterator[Any]:
    """Load the tokenizer of a GGUF file alone, and release it at the end.

    Raises:
        ModelError: as :func:`load_file`; if the file holds no tokenizer.
    """
    model = load_file(path, mapped=True, vocabulary_only=True)
    try:
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        if llama_cpp.llama_vocab_type(vocabulary) == llama_cpp.LLAMA_VOCAB_TYPE_NONE:
            raise ModelError(
                "the file holds no tokenizer, so the model takes token ids only",
                where=str(path),
                advice="Give token ids as data, or convert the model with its tokenizer.json",
            )
        yield vocabulary
    finally:
        llama_cpp.llama_model_free(model)


def tokenize_file(path: Path, text: str) -> NDArray[np.int32]:
    """Return the token ids of plain text by the tokenizer of a GGUF file.

    Special tokens are neither added nor recognized in the text.

    Raises:
        ModelError: as :func:`vocabulary_of`.
    """
    raw = text.encode("utf-8", "replace")
    with vocabulary_of(path) as vocabulary:
        room = len(raw) + 16
        for _ in range(2):
            ids = np.empty(room, np.int32)
            pointer = ids.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))
            count = llama_cpp.llama_tokenize(vocabulary, raw, len(raw), pointer, room, False, False)
            if count >= 0:
                return ids[:count].copy()
            room = -count
    raise ModelError("llama.cpp cannot tokenize the text", where=str(path))
