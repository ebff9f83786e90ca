"""A plain loop over llama.cpp, run as a process of its own that imports nothing of ours.

``python language_loops.py IDS.npy MODEL.gguf ...`` loads the models, one thread each, and answers
every line on its standard input with one of JSON: the wall and CPU seconds of reading every block
of token ids with each model, one model after the other, with all logits computed and none looked
at. It is the least that somebody does who wants the logits of a text.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from typing import Any

import llama_cpp
import numpy as np


def _drop(level: int, text: bytes, data: Any) -> None:
    """Print nothing."""


# It must live as long as the process: llama.cpp logs while it is unloaded.
QUIET: Any = llama_cpp.llama_log_callback(_drop)


def context_of(path: str, tokens: int) -> Any:
    """Load a model for sequences of ``tokens`` tokens, its weights read into memory."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = tokens
    options.n_threads = options.n_threads_batch = 1
    return llama_cpp.llama_init_from_model(model, options)


def read_block(context: Any, row: Any, every: Any) -> None:
    """Compute the logits after every token of a block."""
    pointer = row.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))
    batch = llama_cpp.llama_batch_get_one(pointer, len(row))
    batch.logits = every.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
    if llama_cpp.llama_decode(context, batch):
        raise SystemExit("llama.cpp cannot compute a block")
    llama_cpp.llama_synchronize(context)


def main() -> None:
    """See the module."""
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    ids = np.load(sys.argv[1])
    contexts = [context_of(path, ids.shape[1]) for path in sys.argv[2:]]
    every = np.ones(ids.shape[1], np.int8)
    for _ in sys.stdin:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        for row in ids:
            for context in contexts:
                read_block(context, row, every)
        spent = time.perf_counter() - begin, time.process_time() - cpu_begin
        print(json.dumps(spent), flush=True)


if __name__ == "__main__":
    main()
