"""What the tests of examples/frontend need besides Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from tests.examples.serving import REPOSITORY

FRONTEND = REPOSITORY / "examples" / "frontend"
INSTALL_LIMIT = 240


def missing(what: str) -> NoReturn:
    """Skip with a visible line; where ``CI`` is set, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


def install(project: Path = FRONTEND) -> None:
    """Install the locked npm packages, unless they are there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("Node with npm")
    if not (project / "node_modules" / ".package-lock.json").exists():
        run_npm("ci", project=project)


def build(project: Path = FRONTEND) -> None:
    """Bundle what a page needs."""
    install(project)
    run_npm("run", "build", project=project)


def run_npm(*arguments: str, project: Path = FRONTEND) -> None:
    done = subprocess.run(
        ["npm", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=INSTALL_LIMIT,
        check=False,
    )
    assert done.returncode == 0, f"npm {arguments[0]} failed:\n{done.stderr}"
