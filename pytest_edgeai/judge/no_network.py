"""The gate ``no_network``: every attempt to reach a network is one too many."""

from __future__ import annotations

from pytest_edgeai.judge.verdict import count_text, list_text, make_verdict, require_relation
from pytest_edgeai.privacy_records import NetworkAttempt, NetworkWatch
from pytest_edgeai.records import JSON, Threshold, Verdict, to_json

GATE = "no_network"
KERNEL = "kernel"
_GUARDS = {
    "namespace": "a network namespace",
    "kernel": "a system call filter",
    "python": "Python's audit events",
}
_VERBS = {
    "connect": "connected to",
    "send": "sent to",
    "lookup": "looked up",
    "listen": "listened on",
}


def uncertified(watch: NetworkWatch) -> str:
    """Return why finding nothing would prove nothing; an empty string where it does.

    A guard counts that sees native code too, and that saw the attempt made on purpose.
    """
    if watch.attempts:
        return ""
    if KERNEL not in watch.guards:
        why = watch.missing.get(KERNEL, "no guard was put up")
        return f"native code cannot be watched here ({why}), and Python alone tried nothing"
    if not watch.proved:
        return "the guard did not see the attempt that was made on purpose"
    return ""


def judge_no_network(watch: NetworkWatch, threshold: Threshold) -> Verdict:
    """Decide whether a candidate runs without network and tries no connection.

    Args:
        watch: what it did in a process without network; ``uncertified`` must have found nothing.
        threshold: ``at_most``, 0.

    Returns:
        A verdict; ``observed`` is the number of attempts. Not statistical: what was tried was seen.

    Raises:
        ValueError: for another relation, or a watch that proves nothing.
    """
    require_relation(GATE, threshold, "at_most")
    if uncertified(watch):
        raise ValueError(uncertified(watch))
    attempts = sum(attempt.count for attempt in watch.attempts)
    guards = " and ".join(_GUARDS.get(name, name) for name in watch.guards)
    ran = f"{count_text(watch.samples, 'sample')} and {count_text(watch.calls, 'timed call')}"
    details: dict[str, JSON] = {
        "guards": list(watch.guards),
        "missing_guards": dict(watch.missing),
        "attempts": to_json(watch.attempts),
        "local_sockets": list(watch.local_sockets),
        "calls": watch.calls,
        "watched_s": watch.watched_s,
        "error": watch.error,
    }
    limit = threshold.value or 0.0
    advice = ""
    if attempts > limit:
        outcome = "fail"
        reason = f"it {list_text(map(attempt_text, watch.attempts))} (seen by {guards})"
        if watch.error:
            reason += f"; without it, it does not run: {watch.error}"
        advice = "switch off what connects there, or replace the package that does"
    else:
        outcome = "pass"
        reason = f"no attempt at import, load and {ran}, in {watch.watched_s:.0f} s behind {guards}"
    return make_verdict(
        GATE,
        "fail" if outcome == "fail" else "pass",
        threshold,
        unit="attempts",
        reason=reason,
        advice=advice,
        observed=float(attempts),
        samples=watch.samples,
        details=details,
    )


def attempt_text(attempt: NetworkAttempt) -> str:
    """Return an attempt in words: ``connected to 192.0.2.1:80 (TCP) at load``."""
    facts = [attempt.protocol] if attempt.protocol else []
    facts += [f"{attempt.count} times"] if attempt.count > 1 else []
    facts += [f"by {attempt.by}"] if attempt.by else []
    noted = f" ({', '.join(facts)})" if facts else ""
    return f"{_VERBS.get(attempt.kind, attempt.kind)} {attempt.to}{noted} at {attempt.step}"
