"""Which test proves which rule: read from the text of the tests.

Nothing is run or imported for it, so the list is whole also where a test can't run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Proof:
    """A test and the rules that it proves; `test` is its id for pytest."""

    test: str
    rules: tuple[str, ...]


def python_proofs(folder: Path) -> list[Proof]:
    """Return every test in a folder with the rules that it is marked with, if any."""
    found = []
    for path in sorted(folder.glob("test_*.py")):
        for test in test_functions(path):
            ids = tuple(rule for each in test.decorator_list for rule in _ids(each))
            found.append(Proof(f"{path.relative_to(ROOT)}::{test.name}", ids))
    return found


def test_functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the tests of a file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and node.name.startswith("test_"):
            yield node


def exists(test: str) -> bool:
    """Whether `folder/test_file.py::test_name` is there."""
    file, _, name = test.partition("::")
    return name in _names(ROOT / file)


@cache
def _names(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    return frozenset(found.name for found in test_functions(path))


def _ids(decorator: ast.expr) -> Iterator[str]:
    """Return the arguments of `@pytest.mark.rule(...)`, nothing for another one."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(
        "mark.rule"
    ):
        for argument in decorator.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value
