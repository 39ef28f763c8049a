"""docs/ai.md shows a project and its test: they run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"^```(?:python|toml)\n# (\S+\.\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
SETUP = """
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""


def test_the_project_on_the_page_works(
    project_dir: Path, durable_postgres: str
) -> None:
    text = (ROOT / "docs" / "ai.md").read_text(encoding="utf-8")
    shown = dict(BLOCK.findall(text))
    assert set(shown) == {"durable.toml", "app.py", "tests/test_writer.py"}
    shown["pyproject.toml"] = SETUP
    shown["tests/conftest.py"] = 'pytest_plugins = ["durable.testing"]\n'
    for name, code in shown.items():
        (project_dir / name).parent.mkdir(exist_ok=True)
        (project_dir / name).write_text(code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=project_dir,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": "",
            "TEST_POSTGRES_URL": durable_postgres,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout
