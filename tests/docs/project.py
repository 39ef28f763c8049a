"""A project that a page shows, file by file: it is made, and its tests run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"^```(?:python|ini|toml)\n# (\S+\.\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL
)


def shown_on(page: str) -> dict[str, str]:
    """The files of a page by name: each block's first line is its path."""
    return dict(_BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")))


def run_tests(directory: Path, files: Mapping[str, str], postgres: str) -> str:
    """Make the project and run its tests; what pytest said, which is that all pass."""
    for name, code in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "TEST_POSTGRES_URL": postgres},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
