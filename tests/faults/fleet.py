"""A fleet under faults and load: ``python -m tests.faults.fleet --seconds 600``.

Nodes of role both, each on a tap of its own; clients at any of them, over HTTP and over
sockets, which write, read, use SQL and large values, and let agents call each other.
Round after round one node is killed, stopped, cut off from Postgres or drained, or
Postgres crashes, or ends half of its sessions. What clients saw must be explained by
one order for each agent (I1-I3, I6), by one instance at a time (I4), each agent must be
served again in time (I7), and in the end nothing is left over (I8) or put aside (I11).

``--failover`` kills only, and measures: from SIGKILL until the next owner serves.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp

from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from tests.benchmarks.processes import tail
from tests.faults.checkers import check
from tests.faults.fleet_clients import LIMIT, Clients, Told, check_instances
from tests.faults.fleet_nodes import (
    LEASE,
    Node,
    ShardWatch,
    crash_postgres,
    end_sessions,
    quarantined,
)
from tests.faults.fleet_races import RACES, Race
from tests.faults.fleet_report import Report
from tests.faults.history import AgentHistory, Kind, tally
from tests.faults.strikes import Moment, NothingToHitError, strike

SHARDS = 1024
NODES = 3
AGENTS = 12
QUIET = 8  # besides, for races
HTTP_CLIENTS = 8
SOCKET_DEPTH = 2
ROUNDS_OF_A_CHAPTER = 5
FAULTS = (
    *("kill", "stop", "kill", "cut", "kill", "drain"),
    *("kill", "crash", "kill", "sessions"),
    *RACES,
)
# After a kill: a lost link, a claim, and W; on a machine that others use, too.
KILL_SECONDS = 3.0
FAILOVER_TARGET = 1.0
MOMENTS = (
    Moment.COMMIT_SENT,
    Moment.COMMIT_ANSWERED,
    Moment.SOON_AFTER,
    Moment.ANY,
)
# How often it is asked whether an agent is served again.
PROBE_SECONDS = 0.05
STUCK_SECONDS = 20.0
FILES = 300


class StuckError(Exception):
    """I7: somebody who should be served, or serve, isn't."""


@dataclass(slots=True, kw_only=True)
class FleetCampaign:
    """Rounds of faults on one database."""

    dsn: str
    work: Path
    report: Report
    tell: Callable[[str], None]
    faults: Sequence[str] = FAULTS
    chapter: int = ROUNDS_OF_A_CHAPTER
    _nodes: list[Node] = field(default_factory=list)
    _histories: dict[str, AgentHistory] = field(default_factory=dict)
    _told: dict[str, list[Told]] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=random.Random)

    async def run(self, rounds: int, seconds: float = float("inf")) -> Report:
        """Go on for so many rounds or seconds, or until something is found."""
        end = time.monotonic() + seconds
        self._chance = random.Random(self.report.seed)
        watch = ShardWatch(self.dsn)
        watching = asyncio.create_task(watch.run())
        async with AsyncExitStack() as stack:
            logs = [self.work / f"node-{number}.log" for number in range(NODES)]
            self._nodes += await asyncio.gather(
                *(Node.start(self.dsn, log) for log in logs)
            )
            for node in self._nodes:
                stack.push_async_callback(node.end)
            number = 0
            while number < rounds and time.monotonic() < end:
                chapter = min(self.chapter, rounds - number)
                try:
                    await self._chapter(number, chapter)
                except StuckError as error:
                    self.report.anomalies.append(str(error))
                number += chapter
                if self.report.anomalies:
                    break
                self.tell(f"{number} rounds\n{self.report}\n")
            watching.cancel()
            self.report.anomalies += watch.anomalies
            await self._judge_rest()
        return self.report

    async def _chapter(self, first: int, rounds: int) -> None:
        """Some rounds with agents of their own, and the judgement of their lives."""
        names = [
            f"{kind}/s{self.report.seed}-{first}-{i}"
            for i in range((AGENTS + QUIET) // 2)
            for kind in ("key", "sql")
        ]
        busy, quiet = names[:AGENTS], names[AGENTS:]
        self._histories = {name: AgentHistory() for name in names}
        self._told = {name: [] for name in names}
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=LIMIT) as session:
            clients = Clients(
                urls=lambda: [n.server.url for n in self._nodes if n.reachable],
                busy=busy,
                histories=self._histories,
                told=self._told,
                random=self._chance,
                session=session,
                label=f"{first}",
            )
            await self._all_served(clients)
            load = [
                asyncio.create_task(clients.over_sockets(n, SOCKET_DEPTH)) for n in busy
            ]
            load += [
                asyncio.create_task(clients.over_http()) for _ in range(HTTP_CLIENTS)
            ]
            try:
                for number in range(first, first + rounds):
                    await self._round(number, clients, quiet)
                    self._raise_of(load)
            finally:
                for task in load:
                    task.cancel()
                await asyncio.gather(*load, return_exceptions=True)
            await self._all_served(clients)
        self._judge(clients)

    @staticmethod
    def _raise_of(tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            if task.done():
                task.result()

    async def _round(self, number: int, clients: Clients, quiet: Sequence[str]) -> None:
        fault = self.faults[number % len(self.faults)]
        if fault == "kill":
            victim, name = await self._kill(clients)
        else:
            victim, name = await self._victim(clients)
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))
        other = self._chance.choice([n for n in self._nodes if n is not victim])
        began = time.monotonic()
        restarting: asyncio.Task[None] | None = None
        if fault == "kill":
            victim.reachable = False
            await victim.server.process.wait()
        elif fault == "stop":
            victim.reachable = False
            victim.signal(signal.SIGSTOP)
        elif fault == "cut":
            victim.tap.is_cut = True
        elif fault == "drain":
            victim.signal(signal.SIGTERM)
            restarting = asyncio.create_task(victim.restart())
        elif fault in RACES:
            await Race(
                dsn=self.dsn,
                nodes=self._nodes,
                clients=clients,
                quiet=quiet,
                random=self._chance,
            ).run(fault)
            began = time.monotonic()
        else:
            await (crash_postgres if fault == "crash" else end_sessions)(self.dsn)
        limit = KILL_SECONDS if fault == "kill" else LEASE + 5.0
        await self._served_again(fault, clients, name, other, began, limit)
        if fault == "kill":
            restarting = asyncio.create_task(victim.restart())
        elif fault == "stop":
            victim.signal(signal.SIGCONT)
            victim.reachable = True
        elif fault == "cut":
            victim.tap.heal()
        if restarting is not None:
            await restarting

    async def _victim(self, clients: Clients) -> tuple[Node, str]:
        """A node that owns an agent which is written to, and that agent."""
        until = time.monotonic() + STUCK_SECONDS
        while time.monotonic() < until:
            node = self._chance.choice(self._nodes)
            for name in clients.busy:
                if await self._owns(clients, node, name):
                    return node, name
        raise StuckError(f"nobody serves any of {', '.join(clients.busy)}")

    @staticmethod
    async def _owns(clients: Clients, node: Node, name: str) -> bool:
        answer = await clients.read(name, node.server.url)
        return answer is not None and answer["pid"] == node.server.pid

    async def _kill(self, clients: Clients) -> tuple[Node, str]:
        # In turns, those first that can't miss: so also a short run isn't void.
        moment = MOMENTS[len(self.report.strikes) % len(MOMENTS)]
        while True:
            victim, name = await self._victim(clients)
            kill = partial(victim.signal, signal.SIGKILL)
            try:
                hit = await strike(victim.tap, self._chance, moment, kill)
            except NothingToHitError as error:
                # Its agents may have gone elsewhere.
                if await self._owns(clients, victim, name):
                    raise StuckError(f"the owner of {name} commits nothing") from error
            else:
                self.report.strikes.append(hit)
                return victim, name

    async def _served_again(
        self,
        fault: str,
        clients: Clients,
        name: str,
        other: Node,
        began: float,
        limit: float,
    ) -> None:
        """I7: an agent of the victim's is served by another node within the limit."""
        served = asyncio.Event()

        async def ask() -> None:
            answer = await clients.read(name, other.server.url)
            if answer is not None:
                served.set()

        # Not one after the other: the first may wait in the owner that was lost.
        asking: set[asyncio.Task[None]] = set()
        while not served.is_set() and time.monotonic() - began <= limit:
            asking.add(asyncio.create_task(ask()))
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await served.wait()
        took = time.monotonic() - began
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        self.report.served_after.setdefault(fault, []).append(took)
        if took > limit:
            self.report.anomalies.append(f"{fault}: {name} served after {took:.1f} s")

    async def _all_served(self, clients: Clients) -> None:
        """I7: after the last fault every agent is served, by every front end."""
        limit = time.monotonic() + LEASE + 5.0
        for node in self._nodes:
            for name in self._histories:
                while await clients.read(name, node.server.url) is None:
                    if time.monotonic() > limit:
                        self.report.anomalies.append(f"{name} is not served again")
                        return
                    await asyncio.sleep(0.05)

    def _judge(self, clients: Clients) -> None:
        report = self.report
        report.anomalies += clients.complaints
        for name, history in self._histories.items():
            found = [str(anomaly) for anomaly in check(history)]
            found += check_instances(self._told[name])
            report.anomalies += [f"{name}: {text}" for text in found]
            if history.reads:
                report.increments += tally(history, Kind.INCREMENT)
                report.appends += tally(history, Kind.APPEND)
        for what, count in clients.failures.items():
            report.failures[what] = report.failures.get(what, 0) + count

    async def _judge_rest(self) -> None:
        """I8 and I11: little is held when nobody asks, and nobody was put aside."""
        for node in self._nodes:
            if node.files() > FILES:
                self.report.anomalies.append(f"{node.files()} files open")
        aside = await quarantined(self.dsn)
        if aside:
            self.report.anomalies.append(f"{aside} objects are put aside")


def run(
    report: Report,
    rounds: int,
    seconds: float = float("inf"),
    faults: Sequence[str] = FAULTS,
    tell: Callable[[str], None] = print,
    chapter: int = ROUNDS_OF_A_CHAPTER,
) -> Report:
    """A campaign on a Postgres of its own, which may crash."""
    with tempfile.TemporaryDirectory(prefix="durable-fleet-") as directory:
        work = Path(directory)
        work.chmod(0o755)  # Postgres runs as an ordinary user also when we are root

        async def go() -> None:
            async with embedded_postgres(work / ".durable") as dsn:
                await asyncio.to_thread(migrate, dsn, SHARDS)
                await FleetCampaign(
                    dsn=dsn,
                    work=work,
                    report=report,
                    tell=tell,
                    faults=faults,
                    chapter=chapter,
                ).run(rounds, seconds)

        try:
            asyncio.run(go())
        finally:
            if report.anomalies:
                for log in sorted(work.glob("node-*.log")):
                    tell(f"--- {log.name}\n{tail(log)}")
    return report


def main() -> int:
    """Run and judge; 1 after an anomaly, 3 if the run was void."""
    parser = argparse.ArgumentParser(prog="tests.faults.fleet", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument(
        "--failover", action="store_true", help="100 kills, and the p99 of them"
    )
    parser.add_argument("--faults", default=",".join(FAULTS), help="in this order")
    chapter = "rounds between two judgements"
    parser.add_argument(
        "--chapter", type=int, default=ROUNDS_OF_A_CHAPTER, help=chapter
    )
    chosen = parser.parse_args()
    report = Report(seed=chosen.seed)
    if chosen.failover:
        run(report, 100, faults=("kill",))
    else:
        faults = chosen.faults.split(",")
        run(report, chosen.rounds, chosen.seconds, faults, chapter=chosen.chapter)
    sys.stdout.write(f"{report}\n")
    return 1 if report.anomalies else 3 if report.void else 0


if __name__ == "__main__":
    raise SystemExit(main())
