"""What the gates of production measured, as frozen records that flow from measure to judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.samples import Int64Array, PairedQuality, StabilitySamples


@dataclass(frozen=True)
class ExtremeAnswer:
    """What a model did with one extreme input.

    Attributes:
        kind: what came of the call; ``not_tried`` where the model had crashed or hung too often.
        what: the error, or how the process ended; empty for an answer.
        nan: elements of the answer that are NaN.
        infinite: elements of the answer that are infinite.
        poisoned: how the answer to the reference sample changed by it; empty where it did not.
    """

    kind: Literal["answered", "refused", "crashed", "hung", "not_tried"]
    what: str = ""
    nan: int = 0
    infinite: int = 0
    poisoned: str = ""


@dataclass(frozen=True)
class ExtremeCase:
    """One extreme input and what both models did with it.

    Attributes:
        name: the input in words (``NaN``, ``an empty batch``).
        is_valid: whether it is a finite input of the right type and shape, which the candidate has
            to answer where the baseline does.
        baseline: what the baseline did.
        candidate: what the candidate did.
    """

    name: str
    is_valid: bool
    baseline: ExtremeAnswer
    candidate: ExtremeAnswer


@dataclass(frozen=True, eq=False)
class CountSamples:
    """Open descriptors and threads of one process, read with its memory.

    Attributes:
        descriptors: int64 of shape ``(turns + 1,)``; ``None`` where the system does not tell.
        threads: likewise.
    """

    descriptors: Int64Array | None
    threads: Int64Array | None


@dataclass(frozen=True, eq=False)
class SensorSamples:
    """What the host's sensors said before the first turn and after each, shape ``(turns + 1,)``.

    Attributes:
        temperature_c: float64, the hottest zone in degrees Celsius; ``None`` without a sensor.
        passive_c: where the kernel begins to slow that zone down; ``None`` where it does not say.
        throttles: int64, how often the processors counted that they slowed down because of heat;
            ``None`` without a counter.
        frequency_mhz: float64, mean frequency of all cores; ``None`` where it is not told.
    """

    temperature_c: NDArray[np.float64] | None = None
    passive_c: float | None = None
    throttles: Int64Array | None = None
    frequency_mhz: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class BurstSamples:
    """A spike of load, and the turns after it.

    Attributes:
        streams: calls that ran at the same time to the end.
        calls: calls of all streams.
        seconds: how long the spike lasted.
        errors: what streams that ended early raised, one line each.
        what: the spike in words (``4 parallel streams``).
        after: the turns after it, as those before.
        ended_s: float64 of shape ``(turns,)``, seconds from the end of the spike to that of each.
    """

    streams: int
    calls: int
    seconds: float
    errors: tuple[str, ...]
    what: str
    after: StabilitySamples
    ended_s: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EnduranceSamples:
    """Constant load on a candidate with its baseline beside it, and what came of it.

    Attributes:
        turns: the timed calls, and the memory; the calls behind each reading are all of them.
        baseline: counts of the baseline's process.
        candidate: counts of the candidate's process.
        sensors: of the host.
        planned_turns: turns of the first look; more were added where it did not decide.
        seconds: how long the constant load lasted.
        starts: turn before which each process was started anew: 0, and more after interruptions.
        burst: the spike; ``None`` before it.
        died: how the candidate's process ended, and when; empty while it lives.
    """

    turns: StabilitySamples
    baseline: CountSamples
    candidate: CountSamples
    sensors: SensorSamples
    planned_turns: int
    seconds: float
    starts: tuple[int, ...] = (0,)
    burst: BurstSamples | None = None
    died: str = ""


@dataclass(frozen=True)
class RecoveryScenario:
    """One failure that was staged, and what the serving process did.

    Attributes:
        name: the failure in words (``killed under load``).
        recovery_s: seconds until it served right answers again, one for each staging; infinite
            where it never did.
        answers: answers that were given before, during and after it.
        wrong: sentences about answers that were not those of the intact model.
        faults: sentences about what else went wrong, such as a request that hung.
        notes: what else a reader should know.
        not_staged: why it could not be staged here; empty where it was.
    """

    name: str
    recovery_s: tuple[float, ...] = ()
    answers: int = 0
    wrong: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    not_staged: str = ""


@dataclass(frozen=True)
class RecoverySamples:
    """Failures that were staged one after the other.

    Attributes:
        scenarios: in order; none follows one that served a wrong answer.
        compared: outputs of the intact model that answers were compared with.
        repeats: how often the intact model was asked for them, in processes of its own.
        repeatability: largest difference between its own answers, in parts of an output's range;
            0 where they were the same bit for bit.
    """

    scenarios: tuple[RecoveryScenario, ...]
    compared: int
    repeats: int
    repeatability: float


@dataclass(frozen=True)
class ConditionAnswers:
    """How far a model's answers under one condition lie from those that it gave first.

    Attributes:
        kind: what was changed: nothing but the order (``repeat``), the process (``reload``), the
            number of threads (``threads``) or the samples per call (``batch``).
        what: the condition in words.
        apart: output name to the difference: of numbers the largest one in units of the output's
            spread, infinite where one answer is NaN or infinite and the other is not the same; of
            discrete answers the share of elements that differ.
        changed_decisions: samples whose decided class changed; 0 where there are no classes.
        widest_margin: largest lead, in units of the spread, that a class which changed had over the
            second; 0 where no class changed or the answers have no scores.
        refused: the runtime's words where it does not answer under this condition.
    """

    kind: Literal["repeat", "reload", "threads", "batch"]
    what: str
    apart: Mapping[str, float]
    changed_decisions: int = 0
    widest_margin: float = 0.0
    refused: str = ""


@dataclass(frozen=True)
class ConsistencySamples:
    """The same samples answered by the candidate, and where need was the baseline, again and again.

    Attributes:
        samples: number of samples; of a language model blocks of text.
        candidate: the candidate's answers under each condition.
        baseline: the baseline's under the same conditions; ``None`` where the candidate's answers
            were so equal that nobody had to be asked beside it.
        resolution: output name to what rounding to its dtype can change, in units of its spread.
        error: output name to the largest difference between candidate and baseline in the first
            condition, in the same units; ``None`` where the baseline was not asked.
        discrete: outputs whose answers are equal or not, and how many samples each answers.
        computes_scales: whether the candidate computes scales from what it is fed, as dynamic
            quantization does, or may do so for all that its file tells.
    """

    samples: int
    candidate: tuple[ConditionAnswers, ...]
    baseline: tuple[ConditionAnswers, ...] | None
    resolution: Mapping[str, float]
    error: Mapping[str, float] | None
    discrete: Mapping[str, int]
    computes_scales: bool


@dataclass(frozen=True)
class FrameworkAnswers:
    """How another framework answers the samples that a model's own framework answered.

    Attributes:
        framework: its name.
        counts: whether the verdict rests on it.
        agrees: bool, one entry per sample: whether every output lay within the tolerance; empty
            where the framework gave no comparable answer.
        apart: output name to the largest difference in units of the output's spread.
        changed_decisions: samples whose decided class differs; ``None`` where there are no classes.
        blocks: int64, of a language model the block of text of each entry; ``None`` for samples
            that are independent of each other.
        problem: why it gave no comparable answer; empty where it did.
    """

    framework: str
    counts: bool
    agrees: NDArray[np.bool_]
    apart: Mapping[str, float]
    changed_decisions: int | None = None
    blocks: NDArray[np.int64] | None = None
    problem: str = ""


@dataclass(frozen=True)
class TrafficWindow:
    """Agreement over one part of the recorded time.

    Attributes:
        begin_s: its begin, in seconds after the first request.
        end_s: its end.
        requests: requests that were replayed of it.
        agreement: their mean agreement.
    """

    begin_s: float
    end_s: float
    requests: int
    agreement: float


@dataclass(frozen=True, eq=False)
class ShadowReplay:
    """Recorded requests as far as they were replayed through both models.

    Attributes:
        agreement: float64, shape ``(requests,)``, in the order in which they were drawn: 1 where
            both gave the same answer, 0 where not; of a language model the share of tokens for
            which both would have chosen the same one.
        recorded: requests that could be replayed in all.
        near_ties: requests that count as the same answer because the baseline itself hardly
            preferred its class.
        how: what counted as the same answer, in words.
        windows: agreement over the recorded time; empty without timestamps.
        seconds: seconds that baseline and candidate took for one request, medians over the parts of
            the replay; ``None`` where nothing was timed.
        left_out: requests left out because the candidate was calibrated with them.
        repeated: requests that equal an earlier one.
        is_text: whether a request is a block of text, whose tokens are predicted.
    """

    agreement: NDArray[np.float64]
    recorded: int
    near_ties: int
    how: str
    windows: tuple[TrafficWindow, ...] = ()
    seconds: tuple[float, float] | None = None
    left_out: int = 0
    repeated: int = 0
    is_text: bool = False


@dataclass(frozen=True)
class Finding:
    """Something that must not ship.

    Attributes:
        check: what looked for it (``pickle``, ``template``, ``licence`` ...).
        where: the file, the key of the manifest or the distribution that it was found in.
        what: what it is, a sentence without its full stop.
        found_by: the tool that found it, with its version; empty for this package.
    """

    check: str
    where: str
    what: str
    found_by: str = ""


@dataclass(frozen=True)
class Inspection:
    """What was looked through for findings.

    Attributes:
        subjects: how many things were looked through.
        noun: what each of them is (``file``, ``distribution``).
        findings: in the order in which they were found.
        unread: what nothing could look through, a sentence without its full stop each; a gate with
            any of these does not pass.
        tools: name to version of what looked.
        notes: what else a reader should know.
    """

    subjects: int
    noun: str
    findings: tuple[Finding, ...] = ()
    unread: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CorruptedQuality:
    """Both models under one corruption.

    Attributes:
        name: the corruption.
        severity: 1 to 5.
        strength: what the severity means, in words.
        quality: scores of both on the same corrupted samples.
        clean: the baseline's figure on the same samples as they are; ``None`` where it has none.
        advantage: float64, by how much the baseline does better than guessing: per sample, or, for
            a figure of the whole set, per resample. Guessing is the same outputs with the labels in
            another order; for an embedding, the cosine to another sample's embedding.
    """

    name: str
    severity: int
    strength: str
    quality: PairedQuality
    clean: float | None
    advantage: NDArray[np.float64]
