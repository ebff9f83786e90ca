"""The errors a user can meet: one clear line each; a traceback is kept for our own bugs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgeAIError(Exception):
    """Any condition that is reported to the user as one line, without a traceback."""


class UserError(EdgeAIError):
    """Something the user wrote or supplied is wrong; ends the run with exit code 4."""

    def __init__(self, what: str, *, where: str = "", allowed: str = "", advice: str = "") -> None:
        """Compose the line.

        Args:
            what: what is wrong.
            where: file, table and key it was found in.
            allowed: the values that would have been accepted.
            advice: what to do about it, a sentence without its full stop.
        """
        self.what = what
        self.where = where
        self.allowed = allowed
        self.advice = advice
        line = f"{where}: {what}" if where else what
        if allowed:
            line += f"; allowed: {allowed}"
        if advice:
            line += f". {advice[0].upper()}{advice[1:]}"
        super().__init__(" ".join(line.split()))


class ModelError(UserError):
    """One model, or its data, cannot be used; the other models of the manifest still can."""


class FrameworkMissing(EdgeAIError):
    """A framework is not installed in the interpreter that the manifest names for it."""

    def __init__(self, framework: str, *, interpreter: str, install: str, detail: str = "") -> None:
        """Name the framework and the exact command that installs it.

        Args:
            framework: name of the framework.
            interpreter: the Python that was asked.
            install: the exact install command.
            detail: the interpreter's own words, where it gave any.
        """
        self.framework = framework
        self.interpreter = interpreter
        self.install = install
        text = f"{framework} is not installed in {interpreter}; run: {install}"
        super().__init__(f"{text} ({detail})" if detail else text)


class WorkerFailure(EdgeAIError):
    """A worker process crashed, hung, ran out of memory or raised."""

    def __init__(self, what: str, *, framework: str, step: str, output_tail: str = "") -> None:
        """Describe the failure.

        Args:
            what: what happened, in one line.
            framework: the framework whose worker it was.
            step: the request that was being served.
            output_tail: the last lines the worker wrote, for the test report.
        """
        self.what = what
        self.framework = framework
        self.step = step
        self.output_tail = output_tail
        super().__init__(f"{framework} worker, {step}: {what}")


class NotCertified(EdgeAIError):
    """A gate lacks the tool, permission or data it needs: ``inconclusive``, and never a pass."""

    def __init__(self, what: str, *, advice: str = "") -> None:
        """Describe what is missing.

        Args:
            what: what is missing or not permitted, in one line.
            advice: what to do about it, such as the exact install command.
        """
        self.what = what
        self.advice = advice
        super().__init__(f"{what}; {advice}" if advice else what)


class MeasurementError(EdgeAIError):
    """A measurement could not be taken; its gate is an error and never a pass."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return ``'did you mean "x"?'`` for the closest allowed word, or an empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""


def unknown_word(
    kind: str,
    word: str,
    allowed: Iterable[str],
    *,
    where: str = "",
    error: type[UserError] = UserError,
) -> UserError:
    """Return the error for a word that is not one of those allowed, with the closest of them.

    Args:
        kind: what the word should name (``target``).
        word: what was written.
        allowed: every word that would have been accepted.
        where: file, table and key it was found in.
        error: the kind of error.
    """
    known = list(allowed)
    return error(
        f'unknown {kind} "{word}"',
        where=where,
        allowed=", ".join(known),
        advice=did_you_mean(word, known),
    )
