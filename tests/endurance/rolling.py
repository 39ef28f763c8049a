"""Restarts under load: ``python -m tests.endurance.rolling --sockets 1000``.

Stock npm clients call once a second each, one call in ten streams for two seconds,
while every worker, then every front end is restarted, and then a worker is killed.
Restarts of workers close no socket and fail no call. Clients of a front end that
restarts come back by themselves and know the newest state. After a kill sockets with
nothing in flight are still open, and know the newest state.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.endurance.fleet import Crowd, Fleet, database
from tests.wire.process import need_node

SHARDS = 1024
FRONTS, WORKERS = 2, 3
# Sockets of one agent, about: each of its steps is told to so many.
SOCKETS_OF_AN_AGENT = 2
# After the last restart clients and states must have come to rest.
REST_SECONDS = 30.0
# What a call may end with when its client's own front end has gone.
CUT_OFF = {"Connection closed"}
FILES_OF_A_SOCKET = 4


@dataclass(slots=True)
class Outcome:
    """What was seen, and what must not have been."""

    tell: Callable[[str], None]
    anomalies: list[str] = field(default_factory=list)

    def check(self, what: str, *, holds: bool) -> None:
        """Note what is broken."""
        if not holds:
            self.anomalies.append(what)

    def note(self, what: str, report: dict[str, Any]) -> None:
        """Show what the clients have seen, and judge what never may be."""
        p50, p99 = report["p50"] or 0, report["p99"] or 0
        self.tell(
            f"{what}: {report['calls']} calls, p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
            f"worst {report['worst'] or 0:.0f} ms; closes {report['closes']}, "
            f"failures {report['failures']}"
        )
        for wrong in report["wrong"]:
            self.check(f"{what}: {wrong}", holds=False)


@dataclass(slots=True, kw_only=True)
class Rolling:
    """One run; ``every``: seconds between a client's calls."""

    fleet: Fleet
    outcome: Outcome
    sockets: int
    every: float
    warm_seconds: float = 5.0

    @property
    def agents(self) -> int:
        """How many agents there are."""
        return max(self.sockets // SOCKETS_OF_AN_AGENT, 1)

    def _crowd(self, every: float) -> Any:
        return Crowd.connected(
            self.fleet.fronts, sockets=self.sockets, agents=self.agents, every=every
        )

    async def workers(self) -> None:
        """Every worker: no socket is closed, no call fails, every shard moves."""
        fleet, outcome = self.fleet, self.outcome
        pids = {worker.pid for worker in fleet.workers}
        before = await fleet.shards()
        async with self._crowd(self.every) as crowd:
            await asyncio.sleep(self.warm_seconds)
            outcome.note("before", await crowd.ask("report"))
            for place in range(len(fleet.workers)):
                await fleet.replace_worker(place)
                report = await crowd.ask("report")
                outcome.note(f"worker {place + 1} restarted", report)
                outcome.check(f"closes: {report['closes']}", holds=not report["closes"])
                failures = report["failures"]
                outcome.check(f"failures: {failures}", holds=not failures)
            await crowd.ask("settle")
            report = await crowd.ask("report")
            outcome.check(f"late: {report}", holds=not report["failures"])
            await self._all_know(crowd)
        after = await fleet.shards()
        stayed = [s for s, (owner, _) in after.items() if owner == before[s][0]]
        outcome.check(f"{len(stayed)} shards have not moved", holds=not stayed)
        same = pids & {worker.pid for worker in fleet.workers}
        outcome.check(f"the same processes: {same}", holds=not same)

    async def fronts(self) -> None:
        """Every front end: clients come back by themselves and miss no state."""
        async with self._crowd(self.every) as crowd:
            await asyncio.sleep(self.warm_seconds)
            outcome = self.outcome
            outcome.note("before", await crowd.ask("report"))
            for place in range(len(self.fleet.fronts)):
                await self.fleet.replace_front(place)
                await self._all_open(crowd)
                report = await crowd.ask("report")
                outcome.note(f"front end {place + 1} restarted", report)
                other = set(report["failures"]) - CUT_OFF
                outcome.check(f"failures: {other}", holds=not other)
            await crowd.ask("settle")
            await self._all_know(crowd)

    async def kill(self) -> None:
        """A worker is lost: sockets with nothing in flight stay, and miss nothing."""
        fleet, outcome = self.fleet, self.outcome
        async with self._crowd(0) as crowd, aiohttp.ClientSession() as session:
            await self._step_all(session)
            await self._all_know(crowd)
            fleet.workers[0].kill()
            await fleet.workers[0].process.wait()
            await self._step_all(session)
            await self._all_know(crowd)
            report = await crowd.ask("report")
            outcome.note("worker killed", report)
            outcome.check(f"closes: {report['closes']}", holds=not report["closes"])
            fleet.workers[0] = await fleet.start("worker", 0)
            await fleet.settled()

    # --- what all must know

    async def _step_all(self, session: aiohttp.ClientSession) -> None:
        """One step of each agent, over HTTP; a lost owner's are tried again."""
        for number in range(self.agents):
            url = f"{self.fleet.fronts[0].url}/agents/stroller/crowd-{number}"
            async with asyncio.timeout(REST_SECONDS):
                while True:
                    async with session.post(url) as response:
                        if response.status == 200:
                            break

    async def _all_open(self, crowd: Crowd) -> None:
        async with asyncio.timeout(REST_SECONDS):
            while True:
                states = await crowd.ask("states")
                if all(is_open for *_, is_open in states):
                    return
                await asyncio.sleep(0.1)

    async def _all_know(self, crowd: Crowd) -> None:
        """Each client is connected, and has the newest state of its agent."""
        counts = await self._counts()
        missing: list[Any] = []
        for _ in range(int(REST_SECONDS * 10)):
            states = await crowd.ask("states")
            missing = [
                (name, count, is_open, counts[name])
                for name, count, is_open in states
                if not is_open or count != counts[name]
            ]
            if not missing:
                return
            await asyncio.sleep(0.1)
        text = f"{len(missing)} clients don't know the newest state: {missing[:3]}"
        self.outcome.check(text, holds=False)

    async def _counts(self) -> dict[str, int]:
        counts = {}
        async with aiohttp.ClientSession() as session:
            for number in range(self.agents):
                name = f"crowd-{number}"
                url = f"{self.fleet.fronts[0].url}/agents/stroller/{name}"
                async with session.get(url) as response:
                    counts[name] = int((await response.json())["count"])
        return counts


async def run(
    work: Path,
    tell: Callable[[str], None],
    *,
    sockets: int,
    every: float,
    shards: int = SHARDS,
    workers: int = WORKERS,
    parts: str = "workers,fronts,kill",
) -> Outcome:
    """All parts, on a fleet and a Postgres of its own."""
    outcome = Outcome(tell)
    async with database(work, shards) as dsn:
        fleet = Fleet(dsn=dsn, work=work, settings={"DURABLE_SHARDS": str(shards)})
        async with fleet.running(FRONTS, workers):
            rolling = Rolling(
                fleet=fleet, outcome=outcome, sockets=sockets, every=every
            )
            for part in parts.split(","):
                tell(f"--- {part}")
                await getattr(rolling, part)()
    return outcome


def allow_files(sockets: int) -> None:
    """Raise the limit of open files, which servers and clients inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1000 + FILES_OF_A_SOCKET * sockets
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"open files are limited to {hard}; {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Run and judge; 1 after an anomaly."""
    parser = argparse.ArgumentParser(
        prog="tests.endurance.rolling", description=__doc__
    )
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument(
        "--every", type=float, default=1.0, help="seconds between calls"
    )
    parser.add_argument("--parts", default="workers,fronts,kill")
    chosen = parser.parse_args()
    need_node()
    allow_files(chosen.sockets)

    def tell(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="durable-rolling-") as directory:
        outcome = asyncio.run(
            run(
                Path(directory),
                tell,
                sockets=chosen.sockets,
                every=chosen.every,
                parts=chosen.parts,
            )
        )
    for anomaly in outcome.anomalies:
        tell(f"ANOMALY {anomaly}")
    return 1 if outcome.anomalies else 0


if __name__ == "__main__":
    raise SystemExit(main())
