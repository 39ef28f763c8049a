"""Break the server on purpose, one rule at a time: each time the suite must turn red.

Run as `python -m tests.wire.mutants [NAME ...]`. `mutants.toml` lists what is broken:
a text of a file, what replaces it, and the rules that this breaks. Each mutant is
made in a copy of the project; of the suite the tests of those rules are run. A mutant
whose text isn't there exactly once, a server that doesn't start and a suite that stays
green are failures of this script.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from durable.testing import databases as postgres
from tests.wire.process import NPM, ROOT
from tests.wire.rules import proofs, statements

LIST = Path(__file__).with_name("mutants.toml")
PARTS = ("agents", "durable", "server", "migrations", "tests", "pyproject.toml")
RUN_SECONDS = 300
OPTIONS = ["-q", "--maxfail=1", "-p", "no:cacheprovider"]


@dataclass(frozen=True)
class Mutant:
    """One way to break the server."""

    name: str
    file: str
    old: str
    new: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What the suite said: `red`, or why the mutant proves nothing."""

    word: str
    detail: str


def listed() -> list[Mutant]:
    """Return the mutants of `mutants.toml`."""
    known = statements()
    mutants = []
    for name, entry in tomllib.loads(LIST.read_text()).items():
        unknown = [rule for rule in entry["rules"] if rule not in known]
        if unknown:
            raise ValueError(f"{name}: there is no rule {unknown[0]}")
        rules = tuple(entry["rules"])
        mutants.append(Mutant(name, entry["file"], entry["old"], entry["new"], rules))
    return mutants


def proving(rules: Sequence[str]) -> list[str]:
    """Return the tests that prove one of the rules."""
    return [proof.test for proof in proofs() if set(proof.rules) & set(rules)]


def copy_project(target: Path) -> None:
    """Copy what the suite needs; the npm packages are shared."""
    ignore = shutil.ignore_patterns("node_modules", "__pycache__", ".*cache")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=ignore)
        else:
            shutil.copy(source, target / part)
    modules = target / NPM.relative_to(ROOT) / "node_modules"
    modules.symlink_to(NPM / "node_modules")


def run_tests(project: Path, tests: Sequence[str], dsn: str) -> Verdict:
    """Run tests in a copy of the project and judge the report."""
    report = project / "report.xml"
    report.unlink(missing_ok=True)
    # Without `site`: an editable install would put the unbroken sources first.
    run = [sys.executable, "-S", "-m", "pytest", *OPTIONS]
    command = [*run, f"--junitxml={report}", *tests]
    packages = sysconfig.get_path("purelib")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(project), packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TEST_POSTGRES_URL": dsn,
        "CI": "1",
    }
    try:
        done = subprocess.run(
            command,
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict("hung", f"not done in {RUN_SECONDS} s")
    if not report.exists():
        return Verdict("broken", done.stdout[-2000:] + done.stderr[-2000:])
    return judged(report)


def judged(report: Path) -> Verdict:
    """Tell from pytest's report whether a test failed, and only a test."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    errors = [case for case in cases if case.find("error") is not None]
    if errors:
        error = errors[0].find("error")
        text = "" if error is None else (error.text or "")
        return Verdict("broken", text[-2000:])
    failed = [
        case.get("name", "") for case in cases if case.find("failure") is not None
    ]
    if failed:
        return Verdict("red", failed[0])
    return Verdict("green", f"{len(cases)} tests passed")


def tried(mutant: Mutant, project: Path, dsn: str) -> Verdict:
    """Apply a mutant, run the tests of its rules, and undo it."""
    path = project / mutant.file
    whole = path.read_text() if path.exists() else ""
    if whole.count(mutant.old) != 1:
        times = whole.count(mutant.old)
        return Verdict("stale", f"{mutant.file} has its text {times} times")
    path.write_text(whole.replace(mutant.old, mutant.new))
    try:
        return run_tests(project, proving(mutant.rules), dsn)
    finally:
        path.write_text(whole)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def try_all(mutants: Sequence[Mutant], project: Path, dsn: str) -> int:
    """Try each mutant and print what the suite said; return how many turned it red."""
    red = 0
    for mutant in mutants:
        started = time.monotonic()
        verdict = tried(mutant, project, dsn)
        red += verdict.word == "red"
        seconds = time.monotonic() - started
        rules = ", ".join(mutant.rules)
        say(f"{verdict.word:7}{mutant.name:34}{seconds:5.1f} s  {rules}")
        say(f"       {verdict.detail}")
    return red


def main(names: Sequence[str]) -> int:
    """Try the mutants that were named, or all; return the exit code."""
    mutants = [each for each in listed() if not names or each.name in names]
    with postgres.project_directory() as project, postgres.server() as dsn:
        copy_project(project)
        rules = {rule for mutant in mutants for rule in mutant.rules}
        sound = run_tests(project, proving(sorted(rules)), dsn)
        if sound.word != "green":
            say(f"the suite isn't green to begin with: {sound.word}, {sound.detail}")
            return 1
        red = try_all(mutants, project, dsn)
    say(f"{red} of {len(mutants)} mutants turned the suite red")
    return 0 if red == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
