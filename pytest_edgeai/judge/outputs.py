"""The gate ``output_sanity``: outputs that no deployment could use, whatever the average says."""

from __future__ import annotations

from pytest_edgeai.judge.verdict import count_text, list_text, make_verdict
from pytest_edgeai.records import JSON, Outcome, OutputSanity, Threshold, Verdict

GATE = "output_sanity"
MINIMUM_CLASS_SUPPORT = 3
"""Samples of a class from which on a recall of zero is a fault. A candidate that loses 5% of the
baseline's answers at random loses all of 3 with a probability of 0.0001, but the only one with
0.05, which over the classes of a large label set happens to every healthy candidate."""


def judge_output_sanity(sanity: OutputSanity) -> Verdict:
    """Decide whether the candidate's outputs are sane: no fault of any kind.

    Faults are: a breach of the output contract, NaN or infinity where the baseline has a number,
    an output that became constant, a class whose recall fell to zero. A class with fewer than three
    samples whose recall fell to zero is neither passed nor called a fault: it makes the verdict
    inconclusive, with the number of samples needed.

    Args:
        sanity: comparison of all outputs of both models.

    Returns:
        A verdict; ``observed`` is the number of faults (small classes included), with the
        threshold 0. ``error`` where no sample was run, or a count is negative.
    """
    threshold = Threshold(0.0, "at_most")
    if sanity.samples <= 0:
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="faults",
            reason="not judged: the models were run on no sample",
            advice="check the evaluation data",
        )
    counts = (*sanity.nan_outputs.values(), *sanity.inf_outputs.values())
    if any(not count >= 0 for count in counts):
        return make_verdict(
            GATE,
            "error",
            threshold,
            unit="faults",
            samples=sanity.samples,
            reason="not judged: a count of NaN or infinite elements is negative",
            advice="measure again; report it if it comes back",
        )
    faults = list(sanity.contract_breaches)
    for what, found in (("NaN", sanity.nan_outputs), ("infinite", sanity.inf_outputs)):
        faults += [
            f'{n:,} elements of output "{name}" are {what}' for name, n in found.items() if n
        ]
    faults += [f'output "{name}" is constant' for name in sanity.constant_outputs]
    # A class of unknown support counts as a fault: nothing speaks for chance.
    small = {
        name: sanity.class_support[name]
        for name in sanity.collapsed_classes
        if sanity.class_support.get(name, MINIMUM_CLASS_SUPPORT) < MINIMUM_CLASS_SUPPORT
    }
    for name in sanity.collapsed_classes:
        if name not in small:
            support = sanity.class_support.get(name)
            of = "" if support is None else f" of {count_text(support, 'sample')}"
            faults.append(f'class "{name}" is never recognized any more{of}')
    doubts = [
        f'class "{name}" is never recognized any more, but has only {count_text(n, "sample")}'
        for name, n in small.items()
    ]
    details: dict[str, JSON] = {
        "contract_breaches": list(sanity.contract_breaches),
        "nan_outputs": dict(sanity.nan_outputs),
        "inf_outputs": dict(sanity.inf_outputs),
        "constant_outputs": list(sanity.constant_outputs),
        "collapsed_classes": list(sanity.collapsed_classes),
        "small_collapsed_classes": small,
    }
    outcome: Outcome
    advice = ""
    if faults:
        outcome = "fail"
        reason = list_text(faults + doubts)
        advice = "calibrate with representative data, or leave the output layers in full precision"
    elif doubts:
        outcome = "inconclusive"
        reason = f"{list_text(doubts)}, which may be chance"
        advice = f"add evaluation samples, at least {MINIMUM_CLASS_SUPPORT} of each class"
    else:
        outcome = "pass"
        reason = (
            f"names, shapes and dtypes kept; no NaN, infinite or constant output and no lost class "
            f"over {count_text(sanity.samples, 'sample')}"
        )
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="faults",
        reason=reason,
        advice=advice,
        observed=float(len(faults) + len(doubts)),
        samples=sanity.samples,
        details=details,
    )
