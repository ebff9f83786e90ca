"""What runs when every gate was judged: ``--edge-fix``."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from pytest_edgeai.fixing import fix_candidates
from pytest_edgeai.ledger import Ledger
from pytest_edgeai.workbench import Workbench


class AfterGates:
    """Fixes candidates in the controlling process, behind the loop of tests.

    Interrupting it ends the session as interrupting a test does, with the reports written. A loop
    that broke off (``-x``, Ctrl-C) is followed by nothing.
    """

    def __init__(self, bench: Callable[[], Workbench], ledger: Ledger) -> None:
        """Fix what stands in ``ledger``; ``bench`` returns the session's workbench."""
        self._bench = bench
        self._ledger = ledger

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Wait for the last verdict, then apply remedies."""
        result = yield
        bench = self._bench()
        fix_candidates(bench, self._ledger)
        bench.progress.clear()
        return result
