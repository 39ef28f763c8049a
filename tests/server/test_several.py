"""`durable serve --processes N`: real processes, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from server.child import Spawn
from server.settings import Settings
from server.several import own_ports
from server.supervisor import Limits, Slot, StartError, Supervisor
from tests.server.nodes import ROOT

APP = str(ROOT / "tests" / "server" / "several_app.py")
LIMIT = 45


def environment(database_url: str, **settings: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DURABLE_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "DURABLE_DATABASE_URL": database_url,
        "DURABLE_LEASE_SECONDS": "5",
        "DURABLE_DRAIN_SECONDS": "1",
        **settings,
    }


class Several:
    """A supervisor, and the nodes that answer at its port."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path):
        self.process = process
        self.url = url
        self._log = log
        self.seen: set[int] = set()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def get(self, path: str) -> str:
        """Ask over a connection of its own: the kernel chooses the node."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(self.url + path) as response:
                assert response.status == 200, await response.text()
                return await response.text()

    async def pids(self, number: int) -> set[int]:
        """The nodes, when so many have been met."""
        met: set[int] = set()
        async with asyncio.timeout(LIMIT):
            while len(met) < number:
                # Of one that was killed a connection may be left in the kernel.
                with suppress(aiohttp.ClientError):
                    met.add(int(await self.get("/pid")))
        self.seen |= met
        return met

    async def ended(self) -> int:
        async with asyncio.timeout(LIMIT):
            return await self.process.wait()

    async def gone(self, *pids: int) -> None:
        """Return when these nodes are gone; without any, all that were met."""
        async with asyncio.timeout(LIMIT):
            while any(is_running(pid) for pid in pids or self.seen):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


@asynccontextmanager
async def several(
    number: int, database_url: str, log: Path, **settings: str
) -> AsyncIterator[Several]:
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "serve", APP),
            *("--port", "0", "--processes", str(number)),
            cwd=ROOT,
            env=environment(database_url, **settings),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    running = Several(process, "", log)
    try:
        async with asyncio.timeout(LIMIT):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("Ready on http://127.0.0.1:"), running.log
        running.url = line.removeprefix("Ready on ").strip()
        yield running
    finally:
        if process.returncode is None:
            # Its nodes end when it is gone.
            process.kill()
        await process.wait()
        await running.gone()


async def test_nodes_share_a_port_and_who_is_killed_is_started_again(
    database_url: str, tmp_path: Path
) -> None:
    async with several(2, database_url, tmp_path / "log") as nodes:
        first = await nodes.pids(2)
        assert await nodes.get("/agents/counter/a") == "1"
        for count, pid in enumerate(first, start=2):
            os.kill(pid, signal.SIGKILL)
            await nodes.gone(pid)
            assert await nodes.get("/agents/counter/a") == str(count)
            assert pid not in await nodes.pids(2)
        assert not await nodes.pids(2) & first
        assert "SIGKILL" in nodes.log
        nodes.process.terminate()
        assert await nodes.ended() == 0
        assert not any(is_running(pid) for pid in nodes.seen)


async def test_sigterm_lets_what_runs_end_and_a_second_one_does_not(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"DURABLE_DRAIN_SECONDS": "30"}
    async with several(2, database_url, tmp_path / "one", **settings) as nodes:
        asked = asyncio.create_task(nodes.get("/agents/counter/a?seconds=1"))
        await nodes.pids(2)
        await until_served(nodes)
        nodes.process.terminate()
        assert await asked == "1"
        assert await nodes.ended() == 0
    async with several(2, database_url, tmp_path / "two", **settings) as nodes:
        asked = asyncio.create_task(nodes.get("/agents/counter/a?seconds=60"))
        await nodes.pids(2)
        await until_served(nodes)
        nodes.process.terminate()
        await until_draining(nodes)
        nodes.process.terminate()
        assert await nodes.ended() == 0
        with pytest.raises(aiohttp.ClientError):
            await asked


async def until_served(nodes: Several) -> None:
    """The slow request has been taken: what was asked after it is answered."""
    for name in ("b", "c", "d"):
        assert int(await nodes.get(f"/agents/counter/{name}")) > 0


async def until_draining(nodes: Several) -> None:
    """Return when the nodes take no connection any more."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                await nodes.get("/pid")
            except aiohttp.ClientError:
                return


async def test_the_nodes_of_a_supervisor_that_was_killed_drain(
    database_url: str, tmp_path: Path
) -> None:
    async with several(2, database_url, tmp_path / "log") as nodes:
        await nodes.pids(2)
        nodes.process.kill()
        await nodes.ended()
        await nodes.gone()


async def refused(database_url: str, *arguments: str, **settings: str) -> str:
    """What a supervisor says that ends with 1 before it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "serve", APP, "--processes", "2"),
        *arguments,
        cwd=ROOT,
        env=environment(database_url, **settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT):
        output, text = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    return text.decode()


async def test_what_keeps_a_node_from_starting_is_said_and_ends_all(
    database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    said = await refused(database_url, BROKEN_IF=str(tmp_path / "broken"))
    assert "LookupError: broken on purpose" in said
    assert "of 2 could not start: " in said
    assert "Traceback" not in said
    assert "run `durable migrate`" in await refused(empty_database_url)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = await refused(database_url, "--port", str(port))
    assert f"can't listen on 127.0.0.1:{port}" in said


async def test_a_node_that_cannot_be_started_again_ends_the_supervisor(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "broken"
    for name, value in environment(database_url, BROKEN_IF=str(flag)).items():
        monkeypatch.setenv(name, value)
    arguments = ("serve", APP, "--port", "0")
    limits = Limits(patience=10, attempts=2, first_pause=0.01)
    slots = [
        Slot(Spawn(name=name, arguments=arguments, variables={}), limits)
        for name in ("one", "two")
    ]
    said: list[str] = []
    supervisor = Supervisor(slots, said.append)
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(LIMIT):
        await supervisor.served.wait()
        flag.touch()
        slots[0].signal(signal.SIGKILL)
        with pytest.raises(StartError, match="one could not be started again, 2 times"):
            await running
    assert len(said) == 1
    assert slots[1].child is not None
    assert not slots[1].child.alive


async def test_a_node_that_does_not_end_in_time_is_killed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(database_url).items():
        monkeypatch.setenv(name, value)
    spawn = Spawn(name="one", arguments=("serve", APP, "--port", "0"), variables={})
    slot = Slot(spawn, Limits(patience=0.2))
    supervisor = Supervisor([slot], lambda _: None)
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(LIMIT):
        await supervisor.served.wait()
        assert slot.child is not None
        slot.signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGTERM)
        await running
    assert slot.child.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", ["0", "257", "two"])
async def test_a_number_of_processes_that_cannot_be_is_wrong_usage(number: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "serve", APP, "--processes", number),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, text = await process.communicate()
    assert process.returncode == 2
    assert b"must be a whole number from 1 to 256" in text


def test_each_node_has_ports_of_its_own() -> None:
    settings = Settings(link_port=8788, admin_port=9090, link_advertise="host:8788")
    assert own_ports(settings, 2) == {
        "DURABLE_LINK_PORT": "8790",
        "DURABLE_LINK_ADVERTISE": "host:8790",
        "DURABLE_ADMIN_PORT": "9092",
    }
    assert own_ports(Settings(admin_port=0), 1) == {}


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [Limits(patience=1).pause(failures) for failures in range(1, 11)]
    assert pauses[:4] == [0.25, 0.5, 1.0, 2.0]
    assert pauses[-1] == 30.0
    assert Limits(patience=1).pause(10_000) == 30.0
