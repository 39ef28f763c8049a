"""Which rules there are, and which test proves which: read from the files' text.

Nothing is run or imported for it, so the list is whole also where Node is missing.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.wire.process import NPM

HERE = Path(__file__).parent
DRIVERS = ("client", "reconnect", "react", "chat")
_CHECK = re.compile(r'^check\("([^"\n]+)", (\[[^\]\n]*\]), async', re.MULTILINE)


@dataclass(frozen=True)
class Proof:
    """A test and the rules that it proves; `test` is its id for pytest."""

    test: str
    rules: tuple[str, ...]


def statements() -> dict[str, str]:
    """Return every rule in scope: id and statement."""
    tables = tomllib.loads((HERE / "rules.toml").read_text())
    tables.pop("omitted")
    return {
        f"{letter}.{name}": text
        for letter, table in tables.items()
        for name, text in table.items()
    }


def npm_checks(driver: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return name and rules of each check that a Node driver declares."""
    text = (NPM / f"{driver}.mjs").read_text()
    found = [(name, tuple(json.loads(ids))) for name, ids in _CHECK.findall(text)]
    if len(found) != len(re.findall(r"^check\(", text, re.MULTILINE)):
        raise ValueError(f"{driver}.mjs declares a check in another form")
    return found


def npm_id(driver: str, name: str) -> str:
    """Return the pytest parameter id of a check."""
    return f"{driver}: {name}"


def proofs() -> list[Proof]:
    """Return every test of the suite with the rules that it names."""
    found = [
        Proof(f"tests/wire/test_npm.py::test_npm_client[{npm_id(driver, name)}]", ids)
        for driver in DRIVERS
        for name, ids in npm_checks(driver)
    ]
    for path in sorted(HERE.glob("test_*.py")):
        for test, ids in _python_tests(path):
            found.append(Proof(f"tests/wire/{path.name}::{test}", ids))
    return found


def _python_tests(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            ids = tuple(rule for each in node.decorator_list for rule in _ids(each))
            if ids:
                yield node.name, ids


def _ids(decorator: ast.expr) -> Iterator[str]:
    """Return the arguments of `@pytest.mark.rule(...)`, nothing for another one."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(
        "mark.rule"
    ):
        for argument in decorator.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value
