"""llama.cpp as a framework: loading models, tokenizing, and making artifacts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.optimize.frameworks.base import (
    OperatorProfile,
    OptimizeRequest,
    OptimizeResult,
    Progress,
)
from pytest_edgeai.optimize.frameworks.huggingface_tokenizer import tokenize_directory
from pytest_edgeai.optimize.frameworks.llamacpp_api import start, tokenize_file
from pytest_edgeai.optimize.frameworks.llamacpp_model import LlamaCppModel
from pytest_edgeai.optimize.frameworks.llamacpp_null import CONTEXT_TOKENS, write_null_model
from pytest_edgeai.records import RuntimeOptions


class LlamaCpp:
    """See :class:`~pytest_edgeai.optimize.frameworks.language.LanguageFramework`."""

    def __init__(self) -> None:
        """Start llama.cpp, its log kept instead of printed."""
        start()

    def load_language_model(
        self, path: Path, runtime: RuntimeOptions, context_tokens: int
    ) -> LlamaCppModel:
        """Load a GGUF file, for sequences of ``context_tokens`` tokens.

        ``runtime.hints`` may switch ``memory_mapping`` ``on``.

        Raises:
            ModelError: the file is damaged or cut short, llama.cpp does not run it, or the context
                is longer than the model's.
            UserError: the device or a hint does not exist.
        """
        return LlamaCppModel(path, runtime, context_tokens)

    def load_null_language_model(self, runtime: RuntimeOptions) -> LlamaCppModel:
        """Load a network of one layer and 32 tokens."""
        with tempfile.TemporaryDirectory(prefix="null-") as folder:
            path = Path(folder, "null.gguf")
            write_null_model(path)
            return LlamaCppModel(path, runtime, CONTEXT_TOKENS)

    def profile_language_model(
        self,
        path: Path,
        runtime: RuntimeOptions,
        context_tokens: int,
        tokens: NDArray[np.int32],
        calls: int,
    ) -> OperatorProfile:
        """See :class:`~pytest_edgeai.optimize.frameworks.language.ProfilingLanguageFramework`."""
        from pytest_edgeai.optimize.frameworks import llamacpp_profile

        return llamacpp_profile.profile(path, runtime, context_tokens, tokens, calls)

    def tokenize(self, path: Path, text: str) -> NDArray[np.int32]:
        """Return the token ids of plain text, without special tokens added or recognized.

        Args:
            path: a GGUF file, or a Hugging Face directory with ``tokenizer.json``.
            text: what to tokenize.

        Raises:
            ModelError: the model comes without a tokenizer, or with a broken one.
        """
        return tokenize_directory(path, text) if path.is_dir() else tokenize_file(path, text)

    def optimize(self, request: OptimizeRequest, progress: Progress) -> OptimizeResult:
        """See :func:`pytest_edgeai.optimize.frameworks.llamacpp_optimize.optimize`."""
        # Imported here, because the package gguf takes memory that a measurement would count.
        from pytest_edgeai.optimize.frameworks import llamacpp_optimize

        return llamacpp_optimize.optimize(request, progress)
