"""Every setting with its value and its origin: command line > environment > manifest > default.

This module is imported in every pytest run, also where the plugin stays idle, so it imports
nothing. A marker stands above the command line; markers only set thresholds, see
:mod:`pytest_edgeai.thresholds`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

ENVIRONMENT_PREFIX = "PYTEST_EDGEAI_"
SIGNING_KEY_VARIABLE = ENVIRONMENT_PREFIX + "SIGNING_KEY_PEM"
"""Holds the signing key itself, for CI systems that keep secrets in variables. It is no setting, so
that it is never printed with them."""


class Option:
    """One setting: its name, how it is read, its default and its help text.

    Attributes:
        name: key under ``[settings]``; also the stem of its flag and environment variable.
        kind: ``names``, ``choice``, ``path``, ``reference``, ``seconds``, ``count``, ``flag``,
            ``text`` or ``thresholds``.
        default: value where nobody sets it.
        metavar: placeholder in ``--help``.
        help: one line for ``--help``.
        choices: allowed words of a ``choice``, and of ``names`` where there are some.
        in_manifest: whether ``[settings]`` may set it.
    """

    __slots__ = ("choices", "default", "help", "in_manifest", "kind", "metavar", "name")

    def __init__(
        self,
        name: str,
        kind: str,
        default: Any,
        metavar: str,
        help: str,
        choices: tuple[str, ...] = (),
        in_manifest: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.metavar = metavar
        self.help = help
        self.choices = choices
        self.in_manifest = in_manifest

    @property
    def flag(self) -> str:
        """Command-line flag, e.g. ``--edge-cache-dir``."""
        return "--edge-" + self.name.replace("_", "-")

    @property
    def destination(self) -> str:
        """Attribute of ``config.option``."""
        return "edge_" + self.name

    @property
    def variable(self) -> str:
        """Environment variable, e.g. ``PYTEST_EDGEAI_CACHE_DIR``."""
        return ENVIRONMENT_PREFIX + self.name.upper()


OPTIONS: Final = (
    Option(
        "target",
        "names",
        (),
        "NAME[,NAME]",
        "edge targets to gate for, or all; switches the plugin on",
    ),
    Option(
        "manifest",
        "path",
        None,
        "PATH",
        "the manifest (default: the nearest edgeai.toml, or pyproject.toml with [tool.edgeai])",
        in_manifest=False,
    ),
    Option("model", "names", (), "NAME[,NAME]", "gate only these models of the manifest"),
    Option(
        "framework",
        "names",
        ("primary",),
        "primary|all|NAME[,NAME]",
        "frameworks that make candidates (default: the target's first that can run)",
    ),
    Option("budget", "seconds", 60.0, "SECONDS", "measuring time per gate and candidate"),
    Option(
        "inconclusive",
        "choice",
        "fail",
        "fail|skip",
        "what an inconclusive verdict does to its test (default: fail)",
        ("fail", "skip"),
    ),
    Option(
        "cache_dir",
        "path",
        None,
        "DIR",
        "artifacts and evidence (default: .edgeai beside the manifest)",
    ),
    Option("refresh", "flag", False, "", "make every artifact anew"),
    Option("json", "path", None, "PATH", "write the report as JSON"),
    Option("junit", "path", None, "PATH", "write JUnit XML with one suite per candidate"),
    Option("markdown", "path", None, "PATH", "write the report for a pull request"),
    Option("html", "path", None, "PATH", "write the report as one self-contained page"),
    Option("promote", "path", None, "DIR", "copy each candidate that passed every gate to DIR"),
    Option(
        "signing_key",
        "path",
        None,
        "PATH",
        "sign what is promoted with this Ed25519 private key (PEM)",
    ),
    Option(
        "certificate_days",
        "count",
        365,
        "DAYS",
        "how long the certificate of a promotion is valid (default: 365)",
    ),
    Option(
        "allow_proxy", "flag", False, "", "judge speed on a host that is not of the target's kind"
    ),
    Option(
        "search",
        "count",
        None,
        "TRIALS",
        "search the space of recipes for the best candidates, and gate those",
    ),
    Option(
        "diagnose",
        "flag",
        False,
        "",
        "profile each candidate, name its bottleneck and say what to change",
    ),
    Option(
        "fix",
        "flag",
        False,
        "",
        "apply the remedies of --edge-diagnose one by one, and report what each changed",
    ),
    Option(
        "fix_budget",
        "seconds",
        300.0,
        "SECONDS",
        "longest time of --edge-fix per candidate (default: 300)",
    ),
    Option("plan", "flag", False, "", "print the assessment and the plan, and run nothing"),
    Option(
        "history",
        "flag",
        False,
        "",
        "print what earlier sessions decided, with trends; run nothing",
    ),
    Option(
        "against",
        "reference",
        None,
        "REPORT.json|last|best",
        "gate each candidate also against a promoted one, which is measured anew",
    ),
    Option(
        "self_check",
        "flag",
        False,
        "",
        "run planted cases with a known truth instead of tests: may the gates be trusted here?",
        in_manifest=False,
    ),
    Option(
        "self_check_budget", "seconds", 120.0, "SECONDS", "time of --edge-self-check (default: 120)"
    ),
    Option(
        "profile",
        "choice",
        "ci",
        "ci|release",
        "length of the gates of production; naming one switches them on (default: ci)",
        ("ci", "release"),
    ),
    Option("threshold", "thresholds", (), "GATE=VALUE", "set the threshold of a gate (repeatable)"),
    Option(
        "threads", "count", 1, "N", "threads of both models while they are compared (default: 1)"
    ),
    Option(
        "across",
        "names",
        (),
        "host|versions|threads",
        "compare although these differ: a run that is made to compare exactly that",
        ("host", "versions", "threads"),
    ),
    Option(
        "clock",
        "choice",
        "agree",
        "agree|cpu-led|wall-only",
        "which clock decides on speed (default: wall and CPU time must agree)",
        ("agree", "cpu-led", "wall-only"),
    ),
    Option(
        "carbon_region",
        "text",
        None,
        "REGION",
        "report the emissions of a region: DEU, USA/california, SWE/SE3, gcp/europe-west1",
    ),
    Option(
        "sysfs",
        "path",
        None,
        "DIR",
        "where energy counters are read in a container that sees the host's sysfs elsewhere",
    ),
    Option(
        "time_limit", "seconds", 900.0, "SECONDS", "longest time that one step of a worker may take"
    ),
)
BY_NAME: Final[Mapping[str, Option]] = {option.name: option for option in OPTIONS}
