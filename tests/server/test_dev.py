"""`durable dev` and edits: what is new serves, and sockets and state stay."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from server.watching import watch
from tests.server.nodes import Client, client
from tests.server.test_cli import environment

LIMIT = 30
APP = """
import os
from agents import Agent, Response, callable, route_agent_request
from words import WORD

class Counter(Agent):
    initial_state = {"count": 0}

    @callable()
    def add(self):
        self.set_state({"count": self.state["count"] + 1})
        return [self.state["count"], WORD, os.getpid(), self.env.NAME]

async def fetch(request, env):
    if request.path == "/word":
        return Response(WORD)
    return await route_agent_request(request, env)
"""
MORE = """

class Later(Agent):
    async def on_request(self, request):
        return Response("later")
"""


class Dev:
    """A running `durable dev`, and the project that it serves."""

    def __init__(self, process: asyncio.subprocess.Process, at: Client, project: Path):
        self.process = process
        self.at = at
        self.project = project

    def write(self, name: str, text: str) -> None:
        (self.project / name).write_text(text)

    @property
    def log(self) -> str:
        return (self.project / "log").read_text(errors="replace")

    async def answers(self, path: str, wanted: str) -> None:
        """Return when a path is answered so."""

        async def is_it() -> bool:
            with suppress(aiohttp.ClientError):
                return (await self.at.get(path))[1] == wanted
            return False

        await self.until(is_it)

    async def until(self, happens: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                while not await happens():  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(self.log)

    async def logged(self, text: str) -> None:
        async def is_it() -> bool:
            return text in self.log

        await self.until(is_it)


@asynccontextmanager
async def dev(project: Path, database_url: str) -> AsyncIterator[Dev]:
    (project / "app.py").write_text(APP)
    (project / "words.py").write_text('WORD = "one"\n')
    (project / ".dev.vars").write_text("NAME=ann\n")
    with (project / "log").open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "dev", "--port", "0"),
            cwd=project,
            env=environment(
                DURABLE_DATABASE_URL=database_url, DURABLE_DRAIN_SECONDS="1"
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT):
            line = (await process.stdout.readline()).decode()
        log = (project / "log").read_text()
        assert line.startswith("Ready on http://127.0.0.1:"), log
        async with client(line.removeprefix("Ready on ").strip()) as at:
            yield Dev(process, at, project)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(LIMIT):
            await process.wait()


async def test_an_edit_reaches_agents_and_routes_under_an_open_socket(
    project_dir: Path, database_url: str
) -> None:
    async with dev(project_dir, database_url) as running:
        async with await running.at.call("/agents/counter/a") as caller:
            count, word, pid, _ = (await caller.reply("add"))["result"]
            assert (count, word) == (1, "one")
            # A module that the application imports; both have the same length.
            running.write("words.py", 'WORD = "two"\n')
            while word == "one":
                count += 1
                was, word, now, _ = (await caller.reply("add"))["result"]
                assert was == count
            assert (word, now != pid) == ("two", True)
            await running.answers("/word", "two")
            # A class that wasn't there before.
            running.write("app.py", APP + MORE)
            await running.answers("/agents/later/x", "later")
            assert (await caller.reply("add"))["result"][0] == count + 1
        running.process.terminate()
        assert await running.process.wait() == 0


async def test_code_that_does_not_start_is_shown_and_the_old_code_goes_on(
    project_dir: Path, database_url: str
) -> None:
    async with dev(project_dir, database_url) as running:
        async with await running.at.call("/agents/counter/a") as caller:
            _, _, pid, _ = (await caller.reply("add"))["result"]
            running.write("words.py", "WORD = (\n")
            await running.logged("the old one goes on")
            assert 'words.py", line 1' in running.log
            assert "Traceback" not in running.log
            assert (await caller.reply("add"))["result"] == [2, "one", pid, "ann"]
            assert (await running.at.get("/word"))[1] == "one"
            running.write("words.py", 'WORD = "mended"\n')
            await running.answers("/word", "mended")
            while (reply := (await caller.reply("add"))["result"])[1] == "one":
                pass
            assert reply[1] == "mended"


async def test_a_worker_that_dies_is_started_again_and_so_is_who_reads_the_variables(
    project_dir: Path, database_url: str
) -> None:
    async with dev(project_dir, database_url) as running:
        async with await running.at.call("/agents/counter/a") as caller:
            _, _, pid, name = (await caller.reply("add"))["result"]
            assert name == "ann"
            os.kill(pid, signal.SIGKILL)
            await running.logged("SIGKILL")
            # The socket is the front end's.
            count, _, now, _ = (await caller.reply("add"))["result"]
            assert (count, now != pid) == (2, True)
            running.write(".dev.vars", "NAME=bob\n")
            # The front end is a new one: its clients connect again.
            assert await caller.closed() == (1001, "The server is shutting down")

        async def is_bob() -> bool:
            with suppress(aiohttp.ClientError):
                async with await running.at.call("/agents/counter/a") as again:
                    return bool((await again.reply("add"))["result"][3] == "bob")
            return False

        await running.until(is_bob)


async def test_code_and_configuration_are_watched_and_data_and_libraries_are_not(
    tmp_path: Path,
) -> None:
    for name in ("code/deep", "data", "node_modules", "venv", ".git"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "own-venv").mkdir()
    (tmp_path / "own-venv" / "pyvenv.cfg").touch()
    async with asyncio.timeout(LIMIT):
        changes = watch(tmp_path, tmp_path / "data")
        asked = asyncio.ensure_future(anext(changes))

        async def next_change(*names: str) -> set[str]:
            nonlocal asked
            while not asked.done():
                # Written until it is seen: the watching begins at some time.
                for name in names:
                    (tmp_path / name).write_text(str(asyncio.get_running_loop().time()))
                await asyncio.wait([asked], timeout=0.5)
            found = {str(path.relative_to(tmp_path)) for path in asked.result()}
            asked = asyncio.ensure_future(anext(changes))
            return found

        assert await next_change("code/deep/a.py") == {"code/deep/a.py"}
        ignored = ("data/a.py", "node_modules/a.py", "own-venv/a.py", ".git/a.py")
        assert await next_change(*ignored, "code/a.html", "b.py") == {"b.py"}
        assert await next_change("durable.toml") == {"durable.toml"}
        (tmp_path / "fresh").mkdir()
        assert await next_change("fresh/c.py") == {"fresh/c.py"}
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await changes.aclose()  # type: ignore[attr-defined]  # it is a generator
