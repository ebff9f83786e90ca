"""The profile of a candidate beside its baseline's, for the report; it decides nothing."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import EdgeAIError, ModelError
from pytest_edgeai.judge.roofline import find_bottleneck
from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.peaks import Runtime, measure_peaks, require_runtime
from pytest_edgeai.measure.profile import (
    CORES_S,
    PlainCalls,
    Work,
    arrays_of,
    kv_bytes,
    make_profile,
    operator_profile,
    plain_calls,
)
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.preparation import PreparedModel
from pytest_edgeai.profile_json import peaks_from_json, profile_from_json
from pytest_edgeai.profile_records import CandidateProfile, HostPeaks, Profile
from pytest_edgeai.workbench import Workbench, place, title

PROFILE = "profile"
_SIDES = ("baseline", "candidate")


def is_asked(bench: Workbench, *, timed: bool) -> bool:
    """Return whether this session takes profiles.

    Args:
        bench: whose session it is.
        timed: whether baseline and candidate were just timed; a page or a search takes the profile
            with them, a diagnosis whatever gate runs.
    """
    settings = bench.session.settings
    return bool(settings.diagnose or settings.fix or (timed and (settings.html or settings.search)))


def try_profile(bench: Workbench, candidate: PlannedCandidate) -> None:
    """Take the profile for the report; a failure is a note, told once, and decides nothing.

    What the session did not plan stands in no report: a remedy that is tried has no profile.
    """
    if candidate not in bench.session.candidates:
        return

    def take() -> bool:
        try:
            profile_candidate(bench, candidate)
        except EdgeAIError as error:
            bench.progress.note(f"{title(candidate)}: it was not profiled ({error})")
            return False
        return True

    bench.once(("profile tried", candidate.model.name, candidate.comparison), take)


def profile_candidate(bench: Workbench, candidate: PlannedCandidate) -> CandidateProfile:
    """Return the profiles of baseline and candidate, and what limits each.

    Raises:
        EdgeAIError: a model could not be run, or the peaks of the host could not be measured.
    """
    key = (PROFILE, candidate.model.name, candidate.comparison)
    return bench.once(key, lambda: _profile(bench, candidate))


def _profile(bench: Workbench, candidate: PlannedCandidate) -> CandidateProfile:
    bench.artifact(candidate)
    name = place(candidate, PROFILE)
    with bench.heavy(title(candidate)):
        kept = bench.evidence.read_record(name)
        if kept is not None:
            return profile_from_json(kept)
        models = (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
        what = "profiling the calls of both models"
        bench.progress.step(title(candidate), what)
        plain = plain_calls(models, lambda done: bench.progress.step(title(candidate), what, done))
        sides = [
            _side(bench, candidate, side, model, calls)
            for side, model, calls in zip(_SIDES, models, plain, strict=True)
        ]
        # With as many threads as the models, and after them: measuring peaks heats a small device.
        threads = models[1].runnable.runtime.threads
        peaks = host_peaks(bench, candidate, threads)
    found = CandidateProfile(
        baseline=sides[0],
        candidate=sides[1],
        peaks=peaks,
        baseline_bottleneck=find_bottleneck(sides[0], peaks),
        candidate_bottleneck=find_bottleneck(sides[1], peaks),
    )
    bench.evidence.write_arrays(
        name,
        {
            f"{side}_{what}": times
            for side, calls in zip(_SIDES, plain, strict=True)
            for what, times in arrays_of(calls).items()
        },
    )
    bench.evidence.write_record(name, found)
    return found


def _side(
    bench: Workbench,
    candidate: PlannedCandidate,
    side: str,
    loaded: LoadedRunnable,
    plain: PlainCalls,
) -> Profile:
    model = bench.model(candidate.model.name)
    cores = loaded.core_use(CORES_S)
    bench.progress.step(title(candidate), f"profiling the operators of the {side}")
    traced = operator_profile(loaded, bench.samples(candidate), model.language, min(plain.wall_ns))
    work = work_of_call(model, loaded)
    return make_profile(loaded, plain, cores, traced, work, loaded.samples_per_call)


def work_of_call(model: PreparedModel, loaded: LoadedRunnable) -> Work:
    """Return what a call has to do, read from the file that is run.

    Of a language model it is one token, and of the keys and values those of the prompt.
    """
    try:
        structure = read_structure(loaded.runnable.path)
    except ModelError as error:
        return Work(None, None, f"the file does not tell the work of a call: {error.what}")
    flops, note = structure.workload.flops, structure.workload.note
    moved: float | None = structure.workload.moved_bytes
    if model.language is not None:
        if flops is None or moved is None:
            flops, moved, note = _work_of_token(model, structure.size_bytes, note)
        cached = kv_bytes(loaded)
        if moved is not None and cached:
            depth = model.language.prompt_tokens
            note = f"{note}; and the keys and values of {depth} tokens"
            return Work(flops, moved + cached, note)
        return Work(flops, moved, note)
    batch = loaded.samples_per_call
    if batch == 1:
        return Work(flops, moved, note)
    stored = min(structure.size_bytes, moved) if moved is not None else 0
    return Work(
        None if flops is None else flops * batch,
        None if moved is None else stored + (moved - stored) * batch,
        f"{note}; times {batch} samples of a call, the weights moved once",
    )


def _work_of_token(
    model: PreparedModel, size_bytes: int, note: str
) -> tuple[int | None, float | None, str]:
    """Return the work of a token from the model that this one was made of, where it is not told.

    Quantizing changes no operation, and of its bytes a token reads the share that it reads of the
    original's.
    """
    facts = model.facts
    if facts.flops_per_inference is None or facts.bytes_per_inference is None:
        return None, None, note
    share = facts.bytes_per_inference / max(1, facts.size_bytes)
    told = f"{facts.workload_note}; told of the model that it was made of, its bytes by their size"
    return facts.flops_per_inference, share * size_bytes, told


def host_peaks(bench: Workbench, candidate: PlannedCandidate, threads: int) -> HostPeaks:
    """Return what this host reaches at best, measured once per session and number of threads.

    Raises:
        EdgeAIError: it could not be measured.
    """
    name = f"peaks/threads-{threads}"

    def measure() -> HostPeaks:
        with bench.heavy(title(candidate)):
            kept = bench.evidence.read_record(name)
            if kept is not None:
                return peaks_from_json(kept)
            runtimes = list(_runtimes(bench))
            require_runtime(runtimes)
            peaks = measure_peaks(
                runtimes,
                threads=threads,
                folder=bench.scratch / "peaks",
                memory_bytes=bench.session.host.memory_limit_bytes
                or bench.session.host.memory_bytes,
                time_limit_s=bench.session.settings.time_limit,
                progress=lambda what: bench.progress.step(title(candidate), what),
                note=bench.progress.note,
            )
            bench.evidence.write_record(name, peaks)
            return peaks

    return bench.once((name,), measure)


def _runtimes(bench: Workbench) -> Iterator[Runtime]:
    """Yield the runtimes of this session that compute on the CPU, those that run ONNX first."""
    session = bench.session
    names: dict[str, None] = {}
    for candidate in session.candidates:
        if not candidate.unavailable:
            names |= dict.fromkeys((candidate.baseline_framework, candidate.recipe.framework))
    found = [
        Runtime(framework, session.interpreter(name), "onnx" in framework.formats)
        for name in names
        for framework in (session.catalogue.frameworks[name],)
        if framework.cpu_time_is_valid and not session.installations.missing(name)
    ]
    yield from sorted(found, key=lambda each: not each.runs_onnx)
