"""docs/testing.md shows a project and its tests: they run as they stand there."""

from __future__ import annotations

from pathlib import Path

from tests.docs.project import run_tests, shown_on


def test_the_tests_on_the_page_pass(project_dir: Path, durable_postgres: str) -> None:
    files = shown_on("testing.md")
    assert set(files) >= {"app.py", "tests/test_clients.py"}
    assert "6 passed" in run_tests(project_dir, files, durable_postgres)
