"""Read TOML tables key by key; errors name the file, the table, the key and what is allowed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_edgeai.errors import UserError, unknown_word


def read_toml(path: Path) -> dict[str, Any]:
    """Return the parsed TOML file.

    Raises:
        UserError: missing, unreadable, not UTF-8 or not TOML; names the line where there is one.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError("no such file", where=str(path)) from None
    except IsADirectoryError:
        raise UserError("is a directory", where=str(path), allowed="a TOML file") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"not UTF-8 at byte {error.start}", where=str(path), allowed="UTF-8 TOML"
        ) from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path)) from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid TOML: {error}", where=str(path)) from None


class Table:
    """A TOML table that knows where it stands; every key must be taken or it is unknown."""

    def __init__(self, raw: Any, where: str, *, error: type[UserError] = UserError) -> None:
        """Wrap a raw value.

        Args:
            raw: the value at ``where``.
            where: file and table, e.g. ``edgeai.toml [models.digits]``.
            error: the kind of error that this table's mistakes are.

        Raises:
            UserError: ``raw`` is not a table.
        """
        self.where = where
        self._error = error
        if not isinstance(raw, Mapping):
            raise error(f"{_kind(raw)} where a table is needed", where=where, allowed="a table")
        self._raw = raw

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def refuse_unknown(self, allowed: tuple[str, ...]) -> None:
        """Raise for the first key that is not allowed."""
        for key in self._raw:
            if key not in allowed:
                raise unknown_word("key", key, allowed, where=self.where, error=self._error)

    def raw(self, key: str, default: Any = None) -> Any:
        """Return the value as TOML has it."""
        return self._raw.get(key, default)

    def text(self, key: str, *, default: str | None = None, required: bool = False) -> str | None:
        """Return a non-empty string."""
        if key not in self._raw:
            if required:
                raise self._error(f'"{key}" is missing', where=self.where, allowed="a string")
            return default
        value = self._raw[key]
        if not isinstance(value, str) or not value.strip():
            raise self._error(
                f"{_kind(value)} where a string is needed",
                where=f"{self.where} {key}",
                allowed="a string",
            )
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Return a list of strings, or ``None`` where the key is absent."""
        if key not in self._raw:
            return None
        value = self._raw[key]
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(item, str) and item for item in value)
        ):
            raise self._error(
                f"{_found(value)} where a list of strings is needed",
                where=f"{self.where} {key}",
                allowed='a list such as ["a", "b"]',
            )
        return tuple(value)

    def count(self, key: str, *, most: int) -> int | None:
        """Return a whole number from 1 to ``most``, or ``None`` where the key is absent."""
        if key not in self._raw:
            return None
        value = self._raw[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self._error(
                f"{value!r} is no number that can be used",
                where=f"{self.where} {key}",
                allowed=f"a whole number from 1 to {most}",
            )
        return value

    def table(self, key: str) -> Table:
        """Return a table; an absent one is empty."""
        return Table(self._raw.get(key, {}), self.place(key), error=self._error)

    def place(self, key: str) -> str:
        """Return where the table ``key`` of this table stands."""
        if self.where.endswith("]"):
            return f"{self.where.removesuffix(']')}.{key}]"
        return f"{self.where} [{key}]"

    def tables(self, key: str) -> list[Table] | None:
        """Return an array of tables, or ``None`` where the key is absent."""
        if key not in self._raw:
            return None
        value = self._raw[key]
        where = self.table_name(key)
        if not isinstance(value, list) or not value:
            raise self._error(
                f"{_kind(value)} where an array of tables is needed",
                where=where,
                allowed=f"[[{key}]] tables",
            )
        return [
            Table(item, f"{where} #{number}", error=self._error)
            for number, item in enumerate(value, 1)
        ]

    def table_name(self, key: str) -> str:
        """Return where the tables of an array stand."""
        if self.where.endswith("]"):
            return f"{self.where.replace('[', '[[', 1).removesuffix(']')}.{key}]]"
        return f"{self.where} [[{key}]]"


def _found(value: Any) -> str:
    """Return what stands where a list of strings is needed, and in a list what is none."""
    items = value if isinstance(value, list) else []
    for position, item in enumerate(items, 1):
        if not isinstance(item, str) or not item:
            return f"{_kind(item)} at place {position} of a list"
    return _kind(value)


def _kind(value: Any) -> str:
    names = {
        bool: "true/false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
    }
    if isinstance(value, Mapping):
        return "a table"
    if value == "":
        return "an empty string"
    if value == []:
        return "an empty list"
    return names.get(type(value), type(value).__name__)
