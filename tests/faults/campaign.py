"""Kill a node under load, start it again, judge what is left; many times over.

Each round: clients work against the node, the node is killed with SIGKILL at a moment
that the seed chooses, a successor starts on the same database, every agent is read and
its whole history so far is checked. A few rounds share their agents (a *chapter*), so
that agents live through several crashes while histories stay short.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from tests.benchmarks.processes import Server, node_environment, start, tail
from tests.faults.checkers import check
from tests.faults.clients import LIMIT, Load, UnexpectedAnswerError
from tests.faults.history import AgentHistory, Kind, Tally, tally
from tests.faults.strikes import Moment, NothingToHitError, Strike, strike
from tests.faults.tap import PostgresTap

AGENTS = 10
ROUNDS_OF_A_CHAPTER = 5
HTTP_CLIENTS = 16
SOCKET_DEPTH = 4
MOMENTS = tuple(Moment)


class CampaignError(Exception):
    """A node that was alive failed its clients; the text ends with its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCommand:
    """How to start the server under test; it reads DURABLE_DATABASE_URL."""

    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """What a campaign found."""

    seed: int
    strikes: list[Strike] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)
    increments: Tally = field(default_factory=Tally)
    appends: Tally = field(default_factory=Tally)
    restart_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def hits(self) -> int:
        """Kills that hit while a commit was in flight."""
        return sum(s.commits_in_flight > 0 for s in self.strikes)

    @property
    def void(self) -> bool:
        """Too few kills hit a commit: the campaign proves nothing."""
        return self.hits * 2 < len(self.strikes)

    def __str__(self) -> str:
        """The summary that a campaign prints."""
        restarts = sorted(self.restart_seconds)
        middle = restarts[len(restarts) // 2] if restarts else 0.0
        lines = [
            f"seed {self.seed}: {len(self.strikes)} kills in {self.seconds:.0f} s",
            f"{self.hits} with a commit in flight; restart {middle:.2f} s (median)",
            f"increments: {self.increments}",
            f"appends:    {self.appends}",
            *(f"ANOMALY {anomaly}" for anomaly in self.anomalies[:20]),
        ]
        if self.void:
            lines.append("VOID: less than half of the kills hit a commit in flight")
        return "\n".join(lines)


@dataclass(slots=True, kw_only=True)
class Campaign:
    """A number of rounds on one database."""

    node: NodeCommand
    dsn: str
    work: Path
    report: Report
    tell: Callable[[str], None]
    _histories: dict[str, AgentHistory] = field(default_factory=dict)

    async def run(self, rounds: int) -> Report:
        """Kill ``rounds`` times; stops at the first round with an anomaly."""
        began = time.monotonic()
        parts = urlsplit(self.dsn)
        tap = PostgresTap(parts.hostname or "127.0.0.1", parts.port or 5432)
        port = await tap.start()
        login = parts.netloc.rpartition("@")[0]
        tapped = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
        server = await self._start(tapped)
        try:
            for number in range(rounds):
                if number % ROUNDS_OF_A_CHAPTER == 0:
                    self._begin_chapter(number)
                try:
                    server = await self._round(number, server, tap, tapped)
                except* (UnexpectedAnswerError, NothingToHitError) as errors:
                    raise CampaignError(self._told(number, errors)) from errors
                self.report.seconds = time.monotonic() - began
                if self.report.anomalies:
                    break
                if number % 10 == 9:
                    self.tell(f"{number + 1} rounds\n{self.report}\n")
            self._end_chapter()
        finally:
            await server.stop()
            await tap.stop()
        return self.report

    def _told(self, number: int, errors: BaseExceptionGroup[Exception]) -> str:
        """What a node should not have said, with the end of its log."""
        said: BaseException = errors
        while isinstance(said, BaseExceptionGroup):
            said = said.exceptions[0]
        log = tail(self.work / "node.log")
        return f"seed {self.report.seed}, round {number}: {said}\n{log}"

    async def _start(self, dsn: str) -> Server:
        began = time.monotonic()
        server = await start(
            self.node.command,
            environment=node_environment(
                DURABLE_DATABASE_URL=dsn, **self.node.variables
            ),
            log=self.work / "node.log",
        )
        self.report.restart_seconds.append(time.monotonic() - began)
        return server

    def _begin_chapter(self, number: int) -> None:
        self._end_chapter()
        names = [f"s{self.report.seed}-r{number}-{i}" for i in range(AGENTS)]
        self._histories = {name: AgentHistory() for name in names}

    def _end_chapter(self) -> None:
        for history in self._histories.values():
            if history.reads:
                self.report.increments += tally(history, Kind.INCREMENT)
                self.report.appends += tally(history, Kind.APPEND)
        self._histories = {}

    async def _round(
        self, number: int, server: Server, tap: PostgresTap, dsn: str
    ) -> Server:
        chance = random.Random(f"{self.report.seed}/{number}")
        self.report.strikes.append(await self._load(number, server, tap, chance))
        await server.process.wait()
        successor = await self._start(dsn)
        try:
            await self._read_all(successor, number, chance)
        except BaseException:
            await successor.stop()
            raise
        for name, history in self._histories.items():
            self.report.anomalies += [
                f"round {number}, {name}: {anomaly}" for anomaly in check(history)
            ]
        return successor

    async def _load(
        self, number: int, server: Server, tap: PostgresTap, chance: random.Random
    ) -> Strike:
        """Clients at work until the node is gone."""
        names = tuple(self._histories)
        moment = chance.choice(MOMENTS)
        async with self._session() as session:
            load = self._new_load(session, server, chance, f"{number}")

            def kill() -> None:
                server.kill()
                load.killed.set()

            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(load.over_websocket(name, SOCKET_DEPTH))
                for _ in range(HTTP_CLIENTS):
                    group.create_task(load.over_http(names))
                return await strike(tap, chance, moment, kill)

    async def _read_all(
        self, server: Server, number: int, chance: random.Random
    ) -> None:
        """Read every agent of the chapter from the successor."""
        async with self._session() as session, asyncio.TaskGroup() as group:
            load = self._new_load(session, server, chance, f"{number}.read")
            for name in self._histories:
                group.create_task(load.read(name))

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(connector=connector, timeout=LIMIT)

    def _new_load(
        self,
        session: aiohttp.ClientSession,
        server: Server,
        chance: random.Random,
        label: str,
    ) -> Load:
        return Load(
            url=server.url,
            histories=self._histories,
            random=chance,
            session=session,
            label=label,
        )


def node_command() -> NodeCommand:
    """A node as it is served in production."""
    return NodeCommand(
        command=(
            *(sys.executable, "-m", "server", "serve"),
            *("tests/faults/app.py", "--port", "0"),
        )
    )
