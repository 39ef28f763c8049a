"""Break the protocol on purpose, one rule at a time: the simulator must turn red.

Run as `python -m tests.simulation.mutants [NAME ...]`. `mutants.toml` lists what is
broken. Each mutant is made in a copy of the project, where up to SEEDS seeds are run. A
mutant whose text isn't there exactly once, a simulator that fails by anything but a
violation, and one that stays green are failures of this script.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")
PARTS = ("durable", "tests/__init__.py", "tests/simulation")
SEEDS = 1_000
RUN_SECONDS = 120


@dataclass(frozen=True)
class Mutant:
    """One way to break the protocol: texts of a file, and what replaces them."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]


def listed() -> list[Mutant]:
    """Return the mutants of `mutants.toml`."""
    return [
        Mutant(name, entry["file"], tuple((old, new) for old, new in entry["edits"]))
        for name, entry in tomllib.loads(LIST.read_text()).items()
    ]


def broken(mutant: Mutant, whole: str) -> str | None:
    """The file with the mutant in it; None if a text isn't there exactly once."""
    for old, new in mutant.edits:
        if whole.count(old) != 1:
            return None
        whole = whole.replace(old, new)
    return whole


def copy_project(target: Path) -> None:
    """Copy what the simulator needs."""
    for part in PARTS:
        source = ROOT / part
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target / part, ignore=ignore)
        else:
            shutil.copy(source, target / part)


def simulate(project: Path, seeds: int) -> tuple[bool, str]:
    """Run seeds in a copy of the project; whether one is red, and what was said."""
    # Without `site`: an editable install would put the unbroken sources first.
    command = [sys.executable, "-S", "-m", "tests.simulation", str(seeds)]
    packages = sysconfig.get_path("purelib")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(project), packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        command,
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    is_violation = re.match(r"seed \d+, .* I\d: ", said) is not None
    return done.returncode == 1 and is_violation, said[-300:]


def tried(mutant: Mutant, project: Path, seeds: int = SEEDS) -> tuple[bool, str]:
    """Apply a mutant, run the simulator, and undo it."""
    path = project / mutant.file
    whole = path.read_text()
    mutated = broken(mutant, whole)
    if mutated is None:
        return False, f"{mutant.file} does not have its texts exactly once"
    path.write_text(mutated)
    try:
        return simulate(project, seeds)
    finally:
        path.write_text(whole)


def main(names: Sequence[str]) -> int:
    """Try the mutants that were named, or all; the exit code is 1 if one is green."""
    mutants = [each for each in listed() if not names or each.name in names]
    red = 0
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory)
        copy_project(project)
        for mutant in mutants:
            started = time.monotonic()
            is_red, said = tried(mutant, project)
            red += is_red
            word = "red" if is_red else "GREEN"
            seconds = time.monotonic() - started
            sys.stdout.write(
                f"{word:7}{mutant.name:44}{seconds:5.1f} s\n       {said}\n"
            )
            sys.stdout.flush()
    sys.stdout.write(f"{red} of {len(mutants)} are red\n")
    return int(red < len(mutants) or not mutants)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
