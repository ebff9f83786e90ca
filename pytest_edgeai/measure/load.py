"""Drive models in workers with MLPerf LoadGen: one scenario at a time, read back as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.load_records import LoadRun, Scenario
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples
from pytest_edgeai.measure.language import MODEL, LanguagePlan, LoadedLanguageRunnable

DISTRIBUTION = "mlcommons-loadgen"


class Driven(Protocol):
    """A model under load, in as many streams as it was given."""

    streams: int
    version: str

    def drive(
        self,
        scenario: Scenario,
        settings: Mapping[str, Any],
        output: Path,
        *,
        time_limit_s: float,
    ) -> LoadRun:
        """Run one scenario and read back what LoadGen and the worker wrote into ``output``."""
        ...

    def close(self) -> None:
        """End its workers."""
        ...


class DrivenTensors(LoadedRunnable):
    """A model of tensors in one worker of its own, loaded once for each stream."""

    def __init__(
        self, runnable: Runnable, samples: Samples, streams: int, *, time_limit_s: float
    ) -> None:
        """Start the worker, load the model and stage the queries.

        Raises:
            NotCertified: LoadGen is not installed there.
            EdgeAIError: the framework is missing, the model is refused, or the worker failed.
        """
        self.streams = streams
        super().__init__(runnable, samples, time_limit_s=time_limit_s)

    def _open(self) -> None:
        self.version = require_generator(self._ask("load_generator"), self.runnable)
        samples = self._bound()
        self._handles = [f"stream-{index}" for index in range(self.streams)]
        for handle in self._handles:
            self._ask(
                "load", handle=handle, path=str(self.runnable.path), runtime=self.runnable.runtime
            )
        self._ask(
            "stage_queries",
            handle=self._handles[0],
            arrays=samples.arrays,
            samples=samples.count,
            batch=samples.batching.batch,
        )

    def drive(
        self,
        scenario: Scenario,
        settings: Mapping[str, Any],
        output: Path,
        *,
        time_limit_s: float,
    ) -> LoadRun:
        """See :class:`Driven`; every stream is a thread of the worker with a model of its own."""
        alone = scenario in ("SingleStream", "MultiStream")
        answer = self._worker.request(
            "drive",
            time_limit_s=time_limit_s,
            handles=self._handles[:1] if alone else self._handles,
            scenario=scenario,
            settings=settings,
            output=str(output),
        )
        streams = 1 if alone else self.streams
        can_tell = self.cpu_time_is_valid and self.runnable.runtime.threads == 1 and streams == 1
        return read_run(scenario, settings, [answer], streams, cpu_time_is_valid=can_tell)


class DrivenLanguage:
    """A language model in one worker for each stream: no adapter runs two streams in a process.

    Each worker is driven by a LoadGen of its own. Where the queries of the Server scenario are a
    Poisson process, each worker gets an equal share of it at random, which is a Poisson process
    of that share of the rate.
    """

    def __init__(
        self,
        runnable: Runnable,
        plan: LanguagePlan,
        streams: int,
        output_tokens: int,
        *,
        time_limit_s: float,
    ) -> None:
        """Start the workers, load the model in each and stage the prompts.

        Raises:
            NotCertified: LoadGen is not installed there.
            EdgeAIError: the framework is missing, the model is refused, or a worker failed.
        """
        self.streams = streams
        self._workers: list[_LanguageStream] = []
        try:
            for _ in range(streams):
                self._workers.append(
                    _LanguageStream(runnable, plan, output_tokens, time_limit_s=time_limit_s)
                )
        except BaseException:
            self.close()
            raise
        self.version = self._workers[0].version

    def drive(
        self,
        scenario: Scenario,
        settings: Mapping[str, Any],
        output: Path,
        *,
        time_limit_s: float,
    ) -> LoadRun:
        """See :class:`Driven`."""
        alone = scenario in ("SingleStream", "MultiStream")
        workers = self._workers[:1] if alone else self._workers
        shares = [shared(settings, len(workers), index) for index in range(len(workers))]
        with ThreadPoolExecutor(len(workers)) as pool:
            answers = list(
                pool.map(
                    lambda index: workers[index].drive(
                        scenario, shares[index], output / str(index), time_limit_s
                    ),
                    range(len(workers)),
                )
            )
        can_tell = workers[0].cpu_time_is_valid and workers[0].runnable.runtime.threads == 1
        return read_run(scenario, settings, answers, len(workers), cpu_time_is_valid=can_tell)

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers:
            worker.close()


class _LanguageStream(LoadedLanguageRunnable):
    def __init__(
        self, runnable: Runnable, plan: LanguagePlan, output_tokens: int, *, time_limit_s: float
    ) -> None:
        self._output_tokens = output_tokens
        super().__init__(runnable, None, plan, time_limit_s=time_limit_s)

    def _open(self) -> None:
        self.version = require_generator(self._ask("load_generator"), self.runnable)
        super()._open()
        self._ask(
            "stage_requests",
            handle=MODEL,
            ids=self.plan.ids,
            prompt_tokens=self.plan.prompt_tokens,
            output_tokens=self._output_tokens,
        )

    def drive(
        self, scenario: Scenario, settings: Mapping[str, Any], output: Path, time_limit_s: float
    ) -> Any:
        return self._worker.request(
            "drive",
            time_limit_s=time_limit_s,
            handles=[MODEL],
            scenario=scenario,
            settings=settings,
            output=str(output),
        )


def require_generator(answer: Mapping[str, Any], runnable: Runnable) -> str:
    """Return the version of LoadGen where a model runs.

    Raises:
        NotCertified: it is not; with the command that installs it.
    """
    if not answer["version"]:
        raise NotCertified(
            f"MLPerf LoadGen is not installed in {runnable.interpreter}, which runs "
            f"{runnable.framework.name}",
            advice=f"run: {runnable.interpreter} -m pip install {DISTRIBUTION}",
        )
    return str(answer["version"])


def shared(settings: Mapping[str, Any], workers: int, index: int) -> dict[str, Any]:
    """Return the settings of one of several workers: its share of rate and queries, its seed."""
    share = dict(settings)
    for name in ("server_target_qps", "offline_expected_qps"):
        if name in share:
            share[name] = share[name] / workers
    if "min_query_count" in share:
        share["min_query_count"] = -(-int(share["min_query_count"]) // workers)
    for name in ("schedule_rng_seed", "sample_index_rng_seed"):
        if name in share:
            share[name] = int(share[name]) * 64 + index
    return share


def read_run(
    scenario: Scenario,
    settings: Mapping[str, Any],
    answers: Sequence[Mapping[str, Any]],
    streams: int,
    *,
    cpu_time_is_valid: bool,
) -> LoadRun:
    """Return what the workers of one run wrote as one record.

    Args:
        scenario: the scenario.
        settings: LoadGen's settings of the whole run.
        answers: see :func:`pytest_edgeai.worker.load.finish`, one for each worker.
        streams: how many queries were answered at once.
        cpu_time_is_valid: whether the times of a call tell what other processes took of it.
    """
    parts: list[dict[str, NDArray[Any]]] = []
    for answer in answers:
        with np.load(answer["arrays"], allow_pickle=False) as stored:
            parts.append({name: stored[name] for name in stored.files})
    lanes = [np.full(len(part["wall_ns"]), index) for index, part in enumerate(parts)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    messages: dict[str, int] = {}
    for answer in answers:
        for text, count in answer["messages"].items():
            messages[text] = messages.get(text, 0) + int(count)
    wall_ns = joined["wall_ns"]
    latency_ns = joined.get("latency_ns", wall_ns)
    undisturbed = undisturbed_ns(joined) if cpu_time_is_valid else wall_ns
    return LoadRun(
        scenario=scenario,
        target_per_second=float(settings.get("server_target_qps", 0.0)),
        seconds=max(float(answer["seconds"]) for answer in answers),
        is_valid=all(answer["summary"].get("Result is") == "VALID" for answer in answers),
        streams=streams,
        lane=np.concatenate(lanes).astype(np.int64),
        scheduled_ns=joined.get("scheduled_ns", np.cumsum(wall_ns) - wall_ns),
        issue_delay_ns=joined.get("issue_delay_ns", np.zeros_like(wall_ns)),
        latency_ns=latency_ns,
        service_ns=wall_ns,
        undisturbed_ns=undisturbed,
        failed=joined["failed"],
        token_ns=joined.get("token_ns"),
        messages=messages,
        summary=answers[0]["summary"],
        logs=tuple(str(path) for answer in answers for path in answer["logs"]),
        tells_contention=cpu_time_is_valid,
    )


def undisturbed_ns(calls: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return what calls would have taken had no other process held their core.

    Where the system counts how long a process that was ready had to wait, that is taken off;
    elsewhere a call that was preempted counts with its CPU time, and its own sleeps are lost.

    Args:
        calls: int64 of shape ``(calls,)``: ``wall_ns``, ``cpu_ns``, ``preemptions`` and
            ``delay_ns``, which is -1 where it is not known.
    """
    wall_ns = calls["wall_ns"]
    least = np.minimum(wall_ns, np.maximum(calls["cpu_ns"], 1))
    if len(wall_ns) and (calls["delay_ns"] >= 0).all():
        return np.asarray(np.maximum(wall_ns - calls["delay_ns"], least))
    return np.where(calls["preemptions"] > 0, least, wall_ns)
