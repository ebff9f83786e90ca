"""Put the tables into a page, between two marks."""

from __future__ import annotations

BEGIN = "<!-- contest: begin, written by python -m benchmarks.contest --write -->"
END = "<!-- contest: end -->"


def replace_tables(page: str, tables: str) -> str:
    """Return the page with what stands between the marks replaced.

    Raises:
        ValueError: the page does not have both marks, once each and in their order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}, once each")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables.strip()}\n\n{END}{after}"
