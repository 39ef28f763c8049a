"""Break the protocol on purpose, one rule at a time: the fleet's campaign must be red.

Run as `python -m tests.faults.mutants [--rounds N] [NAME ...]`. The mutants are those
of the simulator and the guards of `mutants.toml`. Each is made in a copy of the
project, where the campaign runs for up to so many rounds. Unlike the simulator the
campaign meets a race by chance: what stays green is named, and the end is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from pathlib import Path

from tests.simulation.mutants import ROOT, Mutant, broken
from tests.simulation.mutants import listed as of_the_simulator

LIST = Path(__file__).with_name("mutants.toml")
PARTS = (
    "agents",
    "durable",
    "server",
    "migrations",
    "tests/faults",
    "tests/benchmarks",
)
FILES = ("tests/__init__.py", "alembic.ini")
ROUNDS = 40
RUN_SECONDS = 600
# Without kills a campaign says that it is void; these are judged by what they find.
VOID = 3
# What brings a mutant out; all faults where nothing is said.
FAULTS = {
    "guard_of_exists": "held-commit",
    "guard_of_key_share": "held-commit",
    "guard_in_one_statement": "held-claim",
    "unlock_before_flush": "lingering",
    "no_freshness_at_the_output_gate": "deaf",
    "no_wait_after_an_unreleased_claim": "deaf",
    "no_drain_after_an_unknown_outcome": "late-commit",
    "continuity_without_a_look_at_the_claim_id": "there-and-back",
}


def listed() -> list[Mutant]:
    """All mutants."""
    guards = [
        Mutant(name, entry["file"], tuple((old, new) for old, new in entry["edits"]))
        for name, entry in tomllib.loads(LIST.read_text()).items()
    ]
    return [*guards, *of_the_simulator()]


def copy_project(target: Path) -> None:
    """Copy what the campaign needs."""
    ignore = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        shutil.copytree(ROOT / part, target / part, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, target / name)


def campaign(
    project: Path, rounds: int, seed: int, faults: str | None
) -> tuple[bool, str]:
    """Run the campaign in a copy; whether it found an anomaly, and what was said."""
    # Without `site`: an editable install would put the unbroken sources first.
    command = [sys.executable, "-S", "-m", "tests.faults.fleet", "--chapter", "1"]
    packages = sysconfig.get_path("purelib")
    if faults is not None:
        command += ["--faults", faults]
    done = subprocess.run(
        [*command, "--rounds", str(rounds), "--seed", str(seed)],
        cwd=project,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(project), packages]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("ANOMALY")]
    if done.returncode == 1 and said:
        return True, said[-1][:300]
    shown = (done.stdout + done.stderr).strip()[-600:]
    if done.returncode not in (0, VOID):
        raise RuntimeError(f"the campaign did not run:\n{shown}")
    return False, shown


def tried(mutant: Mutant, rounds: int, seed: int) -> tuple[bool, str]:
    """Run the campaign with a mutant in a copy of the project."""
    with tempfile.TemporaryDirectory(prefix="durable-mutant-") as directory:
        project = Path(directory)
        copy_project(project)
        path = project / mutant.file
        mutated = broken(mutant, path.read_text())
        if mutated is None:
            return False, f"{mutant.file} does not have its texts exactly once"
        path.write_text(mutated)
        return campaign(project, rounds, seed, FAULTS.get(mutant.name))


def main() -> int:
    """Try the mutants that were named, or all; the exit code is 1 if one is green."""
    parser = argparse.ArgumentParser(prog="tests.faults.mutants", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    chosen = parser.parse_args()
    mutants = [m for m in listed() if not chosen.names or m.name in chosen.names]
    red = 0
    for mutant in mutants:
        started = time.monotonic()
        is_red, said = tried(mutant, chosen.rounds, chosen.seed)
        red += is_red
        seconds = time.monotonic() - started
        word = "red" if is_red else "GREEN"
        sys.stdout.write(f"{word:7}{mutant.name:44}{seconds:5.0f} s\n       {said}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{red} of {len(mutants)} are red\n")
    return int(red < len(mutants) or not mutants)


if __name__ == "__main__":
    sys.exit(main())
