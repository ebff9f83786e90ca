"""Language models as users gate them: weights, text and limits, with real runtimes."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import language_models as llama
import numpy as np
import pytest
from edge_runs import Place, Run

from pytest_edgeai.measure.tokens import load_blocks
from pytest_edgeai.records import LanguageModelFacts
from pytest_edgeai.specification import DataSource


def needs(module: str, extra: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None,
        reason=f"{module} is not installed; run: pip install 'pytest-edgeai[{extra}]'",
    )


with_llamacpp = needs("llama_cpp", "cross")
with_mlx = needs("mlx_lm", "apple")
with_tokenizers = needs("tokenizers", "cross")

CONFIG = llama.llama_config(
    hidden_size=256, intermediate_size=768, num_hidden_layers=2, vocab_size=512
)
BLOCKS, LENGTH = 12, 48
QUICK = """
[gates]
speedup = 0.01
prefill = 0.01
time_to_first_token = 0.01
latency_consistency = 1000
latency_tail = 1
latency_drift = 1000
memory_growth = "1 GiB"
memory_cut = false
"""
"""Limits that a working candidate keeps whatever the machine does, without fresh processes."""
WITHOUT_TIMING = "accuracy_retained or output_sanity or precision_proof"
GATES = (
    "accuracy_retained",
    "speedup",
    "prefill",
    "time_to_first_token",
    "memory_cut",
    "artifact_size",
    "latency_consistency",
    "latency_tail",
    "latency_drift",
    "memory_growth",
    "output_sanity",
    "precision_proof",
)


def quiet_weights(config: dict[str, Any]) -> llama.Weights:
    """Return weights whose predictions are nearly uniform, so that quantizing loses little."""
    weights = llama.llama_weights(config)
    return {
        name: (array * np.float32(0.3) if array.ndim == 2 else array).astype(np.float32)
        for name, array in weights.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama.write_huggingface(
        tmp_path_factory.mktemp("llama") / "chat", CONFIG, weights=quiet_weights(CONFIG)
    )


def ids() -> Any:
    return np.stack([llama.random_tokens(CONFIG, LENGTH, seed=seed) for seed in range(BLOCKS)])


Write = Callable[..., Path]


@pytest.fixture
def write(place: Place, folder: Path) -> Write:
    def make(keys: str = "", extra: str = QUICK, path: Path = folder) -> Path:
        np.savez(place.path / "held-out.npz", input_ids=ids())
        data = "" if "data =" in keys else 'data = "held-out.npz"\n'
        manifest = place.path / "edgeai.toml"
        manifest.write_text(
            f"[models.chat]\npath = {json.dumps(str(path))}\n"
            f'task = "text-generation"\n{data}{keys}\n{extra}',
            encoding="utf-8",
        )
        return manifest

    return make


def refused(run: Run) -> str:
    """Return the one line that a run ended with, before anything was gated."""
    assert run.code == 4, run.text
    errors = [line for line in run.result.stderr.str().splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert "Traceback" not in run.text + run.result.stderr.str()
    return errors[0]


def gate(run: Run, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(g for g in run.candidate()["gates"] if g["name"] == name)
    return found


@with_llamacpp
def test_every_gate_of_a_hugging_face_directory_in_llamacpp(
    place: Place, write: Write, folder: Path
) -> None:
    write(extra=f"{QUICK}token_agreement = 0.2\nkl_divergence = 5\n")
    run = place.run("--edge-framework=llamacpp")
    assert run.code == 0, run.text
    names = [g["name"] for g in run.candidate()["gates"]]
    assert names == [*GATES[:4], "token_agreement", "kl_divergence", *GATES[4:]]
    assert run.verdicts()["precision_proof"] == "pass"
    assert run.candidate()["id"] == "llamacpp-q4_k_m"
    assert "tokens/s" in gate(run, "speedup")["reason"]
    assert "decoding after 24 tokens" in gate(run, "speedup")["reason"]
    assert f"prefill of {LENGTH} tokens" in gate(run, "prefill")["reason"]
    assert "KL divergence" in gate(run, "accuracy_retained")["reason"]

    weights = quiet_weights(CONFIG)
    nll = [
        math.log(llama.perplexity(llama.plain_logits(CONFIG, weights, row), row)) for row in ids()
    ]
    plain = math.exp(float(np.mean(nll)))
    stages = {stage["name"]: stage["measurements"] for stage in run.candidate()["stages"]}
    assert stages["baseline"]["score"] == pytest.approx(plain, rel=1e-4)
    assert "0 failed" not in run.text
    evidence = Path(run.report["evidence"]["directory"])
    with np.load(evidence / "chat" / "llamacpp-q4_k_m" / "tokens.npz") as kept:
        assert kept["baseline_nll"].shape == (BLOCKS * (LENGTH - 1),)
        assert float(np.exp(kept["baseline_nll"].mean())) == pytest.approx(plain, rel=1e-4)


@with_llamacpp
def test_a_gguf_file_is_its_own_baseline(place: Place, write: Write, tmp_path: Path) -> None:
    path = llama.write_gguf(tmp_path / "m.gguf", parameters=3_000_000, hidden=256, vocabulary=512)
    write(path=path)
    run = place.run("-k", "accuracy_retained or precision_proof", "--edge-framework=llamacpp")
    assert set(run.verdicts().values()) <= {"pass", "fail", "inconclusive"}, run.text
    assert run.verdicts()["precision_proof"] == "pass"
    assert run.report["models"][0]["baseline"]["framework"] == "llamacpp"
    assert run.report["models"][0]["baseline"]["artifact"]["path"].endswith("m.gguf")


@with_llamacpp
def test_memory_states_the_cache_and_what_mapping_would_take(place: Place, write: Write) -> None:
    write(extra="[gates]\nmemory_cut = 0.01\n")
    run = place.run("-k", "memory_cut", "--edge-framework=llamacpp")
    verdict = gate(run, "memory_cut")
    # Two layers of two heads of 64 keys and as many values of two bytes, for a whole context.
    assert "KV cache" in verdict["reason"] or verdict["outcome"] == "not_applicable"
    record = json.loads(
        next(Path(run.report["evidence"]["directory"]).rglob("memory.json")).read_text("utf-8")
    )
    samples = record["samples"]
    assert samples["candidate_kv_cache_bytes"] > 0
    assert samples["baseline_kv_cache_bytes"] == samples["candidate_kv_cache_bytes"]
    assert samples["baseline_mapped_bytes"] is not None
    assert len(samples["baseline_bytes"]) == 3


@with_llamacpp
@with_tokenizers
def test_text_is_tokenized_by_the_model(place: Place, write: Write, folder: Path) -> None:
    text = "the model is measured against the model that it replaces. " * 60
    (place.path / "held-out.txt").write_text(text, encoding="utf-8")
    write('data = "held-out.txt"\ncontext_length = 32')
    run = place.run("-k", "output_sanity", "--edge-framework=llamacpp")
    assert run.code == 0, run.text

    from tokenizers import Tokenizer

    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    blocks = load_blocks(
        DataSource(place.path / "held-out.txt", None, ""),
        LanguageModelFacts("llama", context_length=128, vocabulary=512),
        directory=place.path,
        context_length=32,
        context_where="",
        tokenize=lambda path: expected,
    )
    assert gate(run, "output_sanity")["samples"] == blocks.samples


@with_mlx
def test_a_hugging_face_directory_in_mlx_never_passes_on_speed_on_linux(
    place: Place, write: Write
) -> None:
    write()
    run = place.run("--edge-framework=mlx", "-k", f"{WITHOUT_TIMING} or speedup", target="apple")
    assert run.verdicts()["speedup"] == "proxy", run.text
    assert run.verdicts()["precision_proof"] == "pass"
    assert run.verdicts()["accuracy_retained"] in ("pass", "inconclusive", "fail")
    assert "Metal" in gate(run, "speedup")["reason"] or "proxy" in gate(run, "speedup")["reason"]


@with_llamacpp
def test_a_broken_model_fails_the_gates_that_see_it(
    place: Place, write: Write, tmp_path: Path
) -> None:
    """Weights of other values under a known name: agreement and perplexity tell."""
    weights = quiet_weights(CONFIG)
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][::-1].copy()
    write(extra=f"{QUICK}kl_divergence = 1e-9\n")
    run = place.run("-k", "kl_divergence", "--edge-framework=llamacpp")
    assert run.verdicts()["kl_divergence"] == "fail", run.text
    assert run.code == 1


FINDS = "(?s)ERROR: .*"


@with_llamacpp
@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("context_length = 500", "blocks of 500 tokens, and the model was made for 128"),
        ("context_length = 2", "make no block of 2"),
        ("context_length = 0", "context_length"),
        ("prompt_tokens = 48", "a prompt of 48 tokens in blocks of 48"),
        ('metric = "accuracy"', 'metric "accuracy" is for models with labels'),
        ('data = "empty.txt"', '"empty.txt" holds no text'),
        ('data = "latin.txt"', '"latin.txt" is not UTF-8'),
        ('data = "words.npz"', 'an integer array "input_ids"'),
        ('data = "large.npz"', "token id 512 is not in the model's vocabulary"),
        ('data = "held-out.csv"', "does not exist"),
    ],
)
def test_data_that_cannot_be_used_is_one_line(
    place: Place, write: Write, keys: str, what: str
) -> None:
    (place.path / "empty.txt").write_text("")
    (place.path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    np.savez(place.path / "words.npz", tokens=np.zeros(100, dtype=np.int32))
    np.savez(place.path / "large.npz", input_ids=np.full(100, 512))
    write(keys)
    run = place.run("--edge-framework=llamacpp")
    assert what in refused(run)


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lying_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 128}))


def without_shard(folder: Path) -> None:
    llama.write_huggingface(folder, CONFIG, shards=2)
    sorted(folder.glob("model-*.safetensors"))[0].unlink()


@with_llamacpp
@pytest.mark.parametrize("damage", [cut_short, lying_config, without_shard])
def test_damaged_directories_are_one_line(
    place: Place, write: Write, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = llama.write_huggingface(tmp_path / "chat", CONFIG)
    if damage is without_shard:
        (folder / "model.safetensors").unlink()
    damage(folder)
    write(path=folder)
    run = place.run("--edge-framework=llamacpp", "-k", "output_sanity")
    refused(run)


@with_llamacpp
def test_damaged_gguf_files_are_one_line(place: Place, write: Write, tmp_path: Path) -> None:
    path = llama.write_gguf(tmp_path / "m.gguf", parameters=1_000_000, hidden=256, vocabulary=512)
    whole = path.read_bytes()
    damages = {
        "short": whole[: len(whole) // 2],
        "header": whole[:20],
        "version": whole[:4] + (99).to_bytes(4, "little") + whole[8:],
        "family": whole.replace(b"llama", b"lramb"),
        "magic": b"GGML" + whole[4:],
    }
    for name, content in damages.items():
        damaged = tmp_path / f"{name}.gguf"
        damaged.write_bytes(content)
        write(path=damaged)
        run = place.run("--edge-framework=llamacpp", "-k", "output_sanity")
        refused(run)


@with_llamacpp
def test_a_model_larger_than_memory_is_refused_before_loading(
    place: Place, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file states weights that no machine of this decade holds."""
    huge = llama.write_gguf(tmp_path / "m.gguf", parameters=1_000_000, hidden=256, vocabulary=512)
    try:
        with huge.open("r+b") as file:
            file.truncate(8 << 40)
    except OSError:
        pytest.skip("the file system holds no sparse file of 8 TiB")
    write(path=huge)
    run = place.run("--edge-framework=llamacpp")
    assert "GiB of memory" in refused(run)


def test_keys_of_language_models_belong_to_them(place: Place) -> None:
    manifest = place.write("")
    text = manifest.read_text("utf-8")
    head, _, tail = text.partition("task =")
    manifest.write_text(f"{head}context_length = 5\ntask ={tail}", encoding="utf-8")
    assert "takes no context_length" in refused(place.run())


EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-llama"


@with_llamacpp
@pytest.mark.skipif(
    not (EXAMPLE / "model" / "model.safetensors").exists(),
    reason="the sdist leaves the weights out; examples/tiny-llama/train.py makes them",
)
def test_the_shipped_example_keeps_its_quality(place: Place) -> None:
    shutil.copytree(EXAMPLE, place.path, dirs_exist_ok=True)
    run = place.run("-k", f"{WITHOUT_TIMING} or memory_cut")
    assert run.code == 0, run.text
    assert set(run.verdicts().values()) == {"pass"}
    verdict = gate(run, "accuracy_retained")
    assert verdict["observed"] == pytest.approx(0.99, abs=0.01)
    assert "perplexity 21.0" in verdict["reason"]
    assert "the baseline's 20.84" in verdict["reason"]
    assert run.report["models"][0]["baseline"]["artifact"]["precision"] == "float32"
    assert "in llamacpp (float32)" in " ".join(run.text.split())


@with_llamacpp
@with_mlx
def test_fixtures_optimize_and_generate(place: Place, write: Write, folder: Path) -> None:
    write()
    shutil.copytree(folder, place.path / "chat")
    place.pytester.makepyfile(
        test_own="""
        import pytest
        from pytest_edgeai.errors import ModelError

        PROMPT = [7, 11, 13]

        def test_pair(edge_baseline, edge_candidate):
            before, after = edge_baseline.generate(PROMPT, 4), edge_candidate.generate(PROMPT, 4)
            assert 1 <= len(before) <= 4
            assert edge_baseline.generate(PROMPT, 4) == before, "greedy decoding is deterministic"
            assert all(0 <= token < 512 for token in after)

        def test_arrays_and_foreign_tokens_are_refused(edge_candidate):
            with pytest.raises(ModelError, match="not fed arrays"):
                edge_candidate.run({})
            with pytest.raises(ModelError, match="vocabulary"):
                edge_candidate.generate([512], 1)

        def test_compare(edge_compare):
            edge_compare("prefill", at_least=0.01)

        def test_llamacpp(edge_llamacpp):
            made = edge_llamacpp("chat", "q8_0")
            assert made.artifact.path.suffix == ".gguf"
            assert len(made.generate(PROMPT, 3)) <= 3

        def test_mlx(edge_mlx):
            made = edge_mlx("chat", "int4-g64")
            assert (made.artifact.path / "config.json").is_file()
            assert len(made.generate(PROMPT, 3)) <= 3
        """
    )
    run = place.run("test_own.py", "-W", "error", "--edge-framework=llamacpp")
    assert (run.code, run.outcomes) == (0, {"passed": 5}), run.text


@with_llamacpp
@with_tokenizers
@pytest.mark.parametrize(
    ("content", "what"),
    [(None, "no tokenizer"), ("{", "tokenizer.json"), ('{"version": "1.0"}', "tokenizer.json")],
)
def test_text_without_a_sound_tokenizer_is_one_line(
    place: Place, write: Write, tmp_path: Path, content: str | None, what: str
) -> None:
    folder = llama.write_huggingface(tmp_path / "chat", CONFIG, tokenizer=False)
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    (place.path / "held-out.txt").write_text("the model is measured. " * 40)
    write('data = "held-out.txt"', path=folder)
    line = refused(place.run("--edge-framework=llamacpp"))
    assert "[models.chat]" in line
    assert what in line
