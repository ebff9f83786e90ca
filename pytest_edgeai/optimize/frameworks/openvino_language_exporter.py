"""Script: export a language model with optimum-intel, beside what transformers computes with it.

It runs in a process of its own, whose memory is given back before the weights are compressed, and
imports nothing of this package. Called with one argument, a JSON object: ``path`` (where modules
are looked for), ``source`` (a Hugging Face directory), ``output`` (a folder to write into),
``tokens`` (ids to compute logits for), ``class`` (the class that ``config.json`` states).

Written are ``openvino_model.xml`` and ``.bin``, and the logits of ``tokens`` to
:data:`LOGITS`, float32 of shape ``(tokens, vocabulary)``; or :data:`REFUSAL`, one line that says
why not, and exit code 1.

Source: https://huggingface.co/docs/optimum-intel/openvino/export (``main_export``: without an
``OVConfig`` models of a billion parameters and more are compressed to 8 bits).
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

LOGITS = "logits.npy"
REFUSAL = "refusal.txt"
TASK = "text-generation-with-past"
_MOST_NAMES = 3
# Tables that some exporters store and that follow from the configuration.
_DERIVED = ("rotary_emb.inv_freq", "attn.bias", "attn.masked_bias", "attention.masked_bias")


class Refused(Exception):
    """The model cannot be exported as it is; the message is one line for the user."""


def write_logits(source: str, stated: str, tokens: list[int], path: Path) -> None:
    """Compute the logits with transformers, in float32 and with its own choice of attention.

    Raises:
        Refused: transformers does not know the ``model_type``, makes another network of it than the
            configuration states, or would fill in weights that the directory does not hold.
    """
    import numpy as np
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, __version__

    family = json.loads(Path(source, "config.json").read_text(encoding="utf-8"))["model_type"]
    if family not in CONFIG_MAPPING:
        raise Refused(
            f'transformers {__version__} does not know the model_type "{family}", and code that '
            "comes with a model is never run"
        )
    model, loading = AutoModelForCausalLM.from_pretrained(
        source,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    found = type(model).__name__
    if found != stated:
        raise Refused(f"config.json states {stated}, and transformers makes {found} of model_type")
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        names = [name for name in map(str, loading.get(kind) or ()) if not name.endswith(_DERIVED)]
        if names:
            what = kind.removesuffix("_keys")
            listed = ", ".join(sorted(names)[:_MOST_NAMES])
            raise Refused(f"{len(names)} tensors of {found} are {what}: {listed}")
    with torch.no_grad():
        logits = model.eval()(torch.tensor([tokens])).logits[0]
    np.save(path, logits.float().numpy())


def export(source: str, output: Path) -> None:
    """Export in float32, with a cache that the graph keeps, and without any compression."""
    import torch

    main_export: Any = importlib.import_module("optimum.exporters.openvino").main_export
    config: Any = importlib.import_module("optimum.intel").OVConfig(dtype="fp32")
    main_export(
        source,
        output,
        task=TASK,
        ov_config=config,
        stateful=True,
        library_name="transformers",
        local_files_only=True,
        trust_remote_code=False,
        # By default half precision stays, in the graph's arithmetic too.
        model_loading_kwargs={"torch_dtype": torch.float32},
    )


def main(request: dict[str, Any]) -> int:
    """Serve one request; returns the exit code."""
    # The worker's own: what it found installed is found here too.
    sys.path[:] = request["path"]
    # Sends usage data when it is imported; OpenVINO and NNCF go on without it.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    output = Path(request["output"])
    try:
        write_logits(request["source"], request["class"], request["tokens"], output / LOGITS)
        export(request["source"], output)
    except Refused as error:
        line = str(error)
    except Exception as error:  # optimum, transformers and torch have no common base
        line = f"{type(error).__name__}: {error}"
    else:
        return 0
    (output / REFUSAL).write_text(" ".join(line.split()), encoding="utf-8")
    return 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
