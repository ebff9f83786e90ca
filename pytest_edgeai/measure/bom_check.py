"""Whether a bill of materials keeps to the schema of CycloneDX, by the project's own validator."""

from __future__ import annotations

from pytest_edgeai.errors import NotCertified

INSTALL = "pip install 'pytest-edgeai[security]'"
_DISTRIBUTION = "cyclonedx-python-lib[json-validation]"


def schema_fault(text: str) -> str:
    """Return what of a CycloneDX 1.6 document is against its schema; empty where it is valid.

    Args:
        text: the document, as JSON.

    Raises:
        NotCertified: the validator is not installed.
    """
    missing = NotCertified(f"{_DISTRIBUTION} is not installed", advice=f"run: {INSTALL}")
    try:
        from cyclonedx.exception import MissingOptionalDependencyException
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError:
        raise missing from None
    try:
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    except MissingOptionalDependencyException:
        raise missing from None
    except ValueError as problem:
        return f"it is no JSON ({problem})"
    return "" if error is None else " ".join(str(error.data).split())[:300]
