"""The rules of durable objects, what proves each, and the page that says so.

``rules.toml`` has them by section: a text, or a table with ``text`` and

- ``difference``: the rule is kept otherwise, or not at all, and why;
- ``tests``: tests elsewhere that prove it (``tests/folder/test_file.py::test_name``).

A test in this folder names its rules itself, with ``@pytest.mark.rule``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from tests.support.marked import ROOT, python_proofs

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "semantics.md"
DIFFERENCES = "differences"


class Entry(TypedDict):
    """A rule in the file."""

    text: str
    difference: NotRequired[str]
    tests: NotRequired[list[str]]


@dataclass(frozen=True)
class Rule:
    """One promise of Cloudflare's, in our words."""

    id: str
    text: str
    difference: str | None
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A part of the rules: ``S1`` and so on."""

    id: str
    rules: tuple[Rule, ...]


def sections() -> list[Section]:
    """Return every rule with the tests that prove it, here and elsewhere."""
    here: dict[str, list[str]] = {}
    for proof in python_proofs(HERE):
        for rule in proof.rules:
            here.setdefault(rule, []).append(proof.test)
    return [
        Section(
            section,
            tuple(_rule(f"{section}.{n}", entry, here) for n, entry in entries.items()),
        )
        for section, entries in tomllib.loads((HERE / "rules.toml").read_text()).items()
    ]


def _rule(rule: str, entry: str | Entry, here: dict[str, list[str]]) -> Rule:
    full = Entry(text=entry) if isinstance(entry, str) else entry
    tests = (*here.get(rule, ()), *full.get("tests", ()))
    return Rule(rule, full["text"], full.get("difference"), tests)


def page(before: str) -> str:
    """Return the page with the tables that the rules make; the rest is kept.

    A table stands between ``<!-- S1 -->`` and ``<!-- end -->``; the one of what is kept
    otherwise comes last.
    """
    tables = {section.id: _table(section) for section in sections()}
    tables[DIFFERENCES] = _differences()
    out, rest = "", before
    for name, table in tables.items():
        start = f"<!-- {name} -->\n"
        head, found, rest = rest.partition(start)
        if not found:
            raise ValueError(
                f"{PAGE.name} has no place for {name}, or in another order"
            )
        out += head + start + table
        rest = rest[rest.index("<!-- end -->") :]
    return out + rest


def _table(section: Section) -> str:
    lines = ["| | Rule | Proven by |", "|---|---|---|"]
    for rule in section.rules:
        kept = "" if rule.difference is None else " ([differs](#differences))"
        tests = ", ".join(_link(test) for test in rule.tests)
        lines.append(f"| {rule.id} | {rule.text}{kept} | {tests} |")
    return "\n".join(lines) + "\n"


def _link(test: str) -> str:
    """A test's name, linked to its file; without ``test_``, for shortness."""
    file, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../{file})"


def _differences() -> str:
    lines = ["| | Cloudflare | Here, and why |", "|---|---|---|"]
    for section in sections():
        for rule in section.rules:
            if rule.difference is not None:
                lines.append(f"| {rule.id} | {rule.text} | {rule.difference} |")
    return "\n".join(lines) + "\n"
