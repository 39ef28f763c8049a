"""Compare our node with what it competes with: ``python -m tests.benchmarks``.

Prints a table of ratios with their targets, keeps every run as JSON under
``bench-results/`` and ends with 1 if a target was missed. Takes under seven minutes.
``DURABLE_LOAD_DIR`` is the directory of the load generator's ``load.c``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.embedded_postgres import embedded_postgres
from tests.benchmarks.bench import STEADY, Bench, inspect_postgres
from tests.benchmarks.generator import (
    DEFAULT_SOURCE,
    Generator,
    GeneratorError,
    build,
)
from tests.benchmarks.processes import ROOT, ServerProcessError
from tests.benchmarks.targets import TARGETS, Verdict, judge, render

RESULTS = ROOT / "bench-results"
SPARE_FILES = 1000
COLD = ("cold_new", "cold_existing")
# Programs of their own: there the objects and the clock are in one process.
APART = ("work", "sql", "storage", "chat", "remote")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each workload")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run")
    parser.add_argument("--warm", type=float, default=0.7, help="before each run")
    parser.add_argument("--sockets", type=int, default=10_000, help="idle sockets")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    known = sorted({workload for _, workload in STEADY} | {"cold", "idle", *APART})
    parser.add_argument("--only", nargs="*", choices=known, default=[])
    return parser.parse_args()


def allow_files(sockets: int) -> None:
    """Raise the limit of open files, which servers inherit.

    Raises:
        SystemExit: the hard limit is too low for the idle sockets.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sockets + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"open files are limited to {hard}; {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run(chosen: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Measure what was chosen; the report, with its verdicts under ``rows``."""
    source = Path(os.environ.get("DURABLE_LOAD_DIR", DEFAULT_SOURCE))
    program = await build(source, work)
    only = frozenset(chosen.only)
    started = time.monotonic()
    async with embedded_postgres(work / "postgres") as dsn:
        pid, version = await inspect_postgres(dsn)
        bench = Bench(
            generator=Generator(
                program=program, seconds=chosen.seconds, warm=chosen.warm
            ),
            dsn=dsn,
            postgres_pid=pid,
            postgres_version=version,
            work=work,
        )
        await bench.migrate()
        if not only or only & {workload for _, workload in STEADY}:
            await bench.steady(chosen.rounds, only)
        if not only or "cold" in only:
            await bench.cold(chosen.rounds)
        idle = None
        if not only or "idle" in only:
            idle = await bench.idle(chosen.sockets, chosen.seed)
    verdicts = [judge(t, bench.runs) for t in TARGETS if wanted(t.ours, only)]
    if idle is not None:
        verdicts.append(idle.verdict())
    return {
        "verdicts": verdicts,
        "report": {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "python": platform.python_version(),
            "postgres": version,
            "cores": os.cpu_count(),
            "seed": chosen.seed,
            "rows": [row.cells() for row in verdicts],
            "runs": bench.runs.as_json(),
        },
    }


def wanted(workload: str, only: frozenset[str]) -> bool:
    """Whether a row's workload was chosen on the command line."""
    name = "cold" if workload in COLD else workload
    return not only or name in only


def keep(report: dict[str, Any]) -> Path:
    """Write the report beside those of earlier runs."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{report['at'].replace(':', '')}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path


def main() -> int:
    """Run, print, keep; 0 when every target was reached."""
    chosen = options()
    allow_files(chosen.sockets)
    try:
        with tempfile.TemporaryDirectory(prefix="durable-bench-") as work:
            outcome = asyncio.run(run(chosen, Path(work)))
    except (GeneratorError, ServerProcessError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    report, verdicts = outcome["report"], outcome["verdicts"]
    path = keep(report)
    sys.stdout.write(
        f"{render(verdicts)}\n\nPython {report['python']}, Postgres "
        f"{report['postgres']}, {report['cores']} cores, {report['seconds']:.0f} s; "
        f"every run: {path.relative_to(ROOT)}\n"
    )
    missed: list[Verdict] = [row for row in verdicts if not row.passed]
    failed = bool(missed)
    for name in APART:
        if wanted(name, frozenset(chosen.only)):
            command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
            failed |= subprocess.run(command).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
