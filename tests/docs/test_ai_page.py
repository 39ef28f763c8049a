"""docs/ai.md shows a project and its test: they run as they stand there."""

from __future__ import annotations

from pathlib import Path

from tests.docs.project import run_tests, shown_on

SETUP = """
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""


def test_the_project_on_the_page_works(
    project_dir: Path, durable_postgres: str
) -> None:
    files = shown_on("ai.md")
    assert set(files) == {"durable.toml", "app.py", "tests/test_writer.py"}
    files["pyproject.toml"] = SETUP
    files["tests/conftest.py"] = 'pytest_plugins = ["durable.testing"]\n'
    assert "1 passed" in run_tests(project_dir, files, durable_postgres)
