"""docs/testing.md shows a project and its tests: they run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?:python|ini)\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_tests_on_the_page_pass(project_dir: Path, durable_postgres: str) -> None:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    shown = BLOCK.findall(text)
    assert {name for name, _ in shown} >= {"app.py", "tests/test_clients.py"}
    for name, code in shown:
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
    assert "6 passed" in run.stdout
