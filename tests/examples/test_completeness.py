"""No example without a test, none without a line that tells how to run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.combined import EXAMPLES, FOLDERS, PROGRAMS, modules

TESTS = Path(__file__).parents[1]
FILES = sorted(
    path
    for folder in (*FOLDERS, "frontend")
    for path in (EXAMPLES / folder).iterdir()
    if path.suffix in {".py", ".mjs", ".jsx"}
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_example_says_how_to_run_it(path: Path) -> None:
    assert "Run: " in path.read_text()[:600]


def test_every_example_is_served_or_run_by_a_test() -> None:
    tests = [*TESTS.glob("examples/test_*.py"), *TESTS.glob("browser/test_*.py")]
    text = "".join(path.read_text() for path in tests)
    names = {*modules(), *(Path(program).stem for program in PROGRAMS)}
    assert not {name for name in names if name not in text}
