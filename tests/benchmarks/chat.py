"""Many chats that stream at once, and a long one that wakes.

``python -m tests.benchmarks.chat`` lets 200 chats of one node stream 50 chunks a second
each. Each chunk says when the model made it; a client in another process says how much
later it came. The group commits of that time are counted. Then a chat with 10,000
messages is woken, again and again, against one with 500. It ends with 1 if a target
was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import statistics
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from agents import get_agent_by_name
from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from server.runtime import Runtime
from server.settings import Settings
from tests.benchmarks.chat_app import BenchChat
from tests.benchmarks.metrics import metric
from tests.benchmarks.processes import Server, node_environment, running
from tests.benchmarks.targets import Verdict, render

APP = "tests/benchmarks/chat_app.py"
SHARDS = 1024
STREAMS = 200
A_SECOND = 50
SECONDS = 10
MAX_DELAY_MS = 50.0
# One commit for at least so many chunks.
MIN_SHARED = 10
HISTORY = 10_000
# More than are remembered, too: what is beyond those must cost nothing.
SHORT = 500
WAKES = 20
MAX_RATIO = 1.2
MAX_EXTRA_MS = 3.0
MAX_EXTRA_KIB = 20.0
_STAMP = re.compile(r"\d+\.\d+")
_COMMITS = "durable_commit_seconds_count"


def request(number: int, chunks: int, seconds: float) -> str:
    """A message of a user, as ``useAgentChat`` sends it."""
    message = {"id": f"u{number}", "role": "user", "parts": [{"type": "text"}]}
    message["parts"] = [{"type": "text", "text": "go"}]
    body = {"messages": [message], "chunks": chunks, "seconds": seconds}
    init = {"method": "POST", "body": json.dumps(body)}
    kind = "cf_agent_use_chat_request"
    return json.dumps({"type": kind, "id": f"r{number}", "init": init})


async def follow(session: aiohttp.ClientSession, url: str, number: int) -> list[float]:
    """One chat: by how many seconds each of its chunks was late."""
    late: list[float] = []
    async with session.ws_connect(f"{url}/agents/bench-chat/c{number}") as websocket:
        await websocket.send_str(request(number, SECONDS * A_SECOND, 1 / A_SECOND))
        async for message in websocket:
            now = time.time()
            frame = json.loads(message.data)
            if frame.get("type") != "cf_agent_use_chat_response":
                continue
            if frame.get("done"):
                break
            chunk = json.loads(frame["body"]) if frame.get("body") else {}
            if chunk.get("type") == "text-delta":
                late += [now - float(at) for at in _STAMP.findall(chunk["delta"])]
    return late


async def stream(server: Server) -> list[Verdict]:
    """Let all chats stream at once."""
    async with aiohttp.ClientSession() as session:
        before, begun = await metric(server, _COMMITS), time.monotonic()
        chats = (follow(session, server.url, number) for number in range(STREAMS))
        late = sorted(each for chat in await asyncio.gather(*chats) for each in chat)
        took = time.monotonic() - begun
        made = await metric(server, _COMMITS) - before
    p50, p99 = (late[len(late) * p // 100] * 1000 for p in (50, 99))
    shared = len(late) / made
    return [
        Verdict(
            title=f"delay of a chunk, {STREAMS} streams of {A_SECOND} a second",
            ours=f"p99 {p99:.0f} ms",
            reference="",
            result=f"{p99:.0f} ms",
            target=f"<= {MAX_DELAY_MS:g} ms",
            passed=p99 <= MAX_DELAY_MS and len(late) == STREAMS * SECONDS * A_SECOND,
            remark=f"p50 {p50:.0f}, worst {late[-1] * 1000:.0f} ms, {len(late):,} came",
        ),
        Verdict(
            title="chunks in a commit, the same",
            ours=f"{shared:.0f} chunks",
            reference=f"{made / took:.0f} commits a second",
            result=f"{shared:.0f}",
            target=f">= {MIN_SHARED}",
            passed=shared >= MIN_SHARED,
        ),
    ]


async def wake(runtime: Runtime, name: str, count: int) -> tuple[float, float]:
    """What a wake with a history costs: milliseconds (the median), and KiB."""
    chat: Any = await get_agent_by_name(BenchChat, name, env=runtime.env)
    await chat.fill(count)
    times, sizes = [], []
    for number in range(2 * WAKES):
        await runtime.worker.dispatcher.evict_idle(0)
        # Tracing slows: every other wake is timed.
        traced = number % 2 == 1
        if traced:
            gc.collect()
            tracemalloc.start()
        begun = time.perf_counter()
        assert await chat.remembered() == min(count, BenchChat.messages_in_memory)
        if traced:
            sizes.append(tracemalloc.get_traced_memory()[0] / 1024)
            tracemalloc.stop()
        else:
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times), statistics.median(sizes)


async def history(dsn: str) -> list[Verdict]:
    """Wake a chat with a long history, and one with a short one."""
    async with Runtime(Settings(database_url=dsn), (BenchChat,)) as node:
        short, small = await wake(node, "short", SHORT)
        long, large = await wake(node, "long", HISTORY)
    title = f"a wake with {HISTORY:,} messages"
    return [
        Verdict(
            title=f"time of {title}",
            ours=f"{long:.1f} ms",
            reference=f"{SHORT}: {short:.1f} ms",
            result=f"{long / short:.2f} x",
            target=f"<= {MAX_RATIO:g} x + {MAX_EXTRA_MS:g} ms",
            passed=long <= MAX_RATIO * short + MAX_EXTRA_MS,
        ),
        Verdict(
            title=f"memory of {title}",
            ours=f"{large:.0f} KiB",
            reference=f"{SHORT}: {small:.0f} KiB",
            result=f"{large / small:.2f} x",
            target=f"<= {MAX_RATIO:g} x + {MAX_EXTRA_KIB:g} KiB",
            passed=large <= MAX_RATIO * small + MAX_EXTRA_KIB,
        ),
    ]


async def _main(work: Path) -> list[Verdict]:
    async with embedded_postgres(work / "postgres") as dsn:
        await asyncio.to_thread(migrate, dsn, SHARDS)
        command = (
            sys.executable,
            "-m",
            "server",
            "serve",
            "tests/benchmarks/chat_app.py",
        )
        environment = node_environment(
            DURABLE_DATABASE_URL=dsn, DURABLE_ADMIN_PORT="0", PYTHONPATH="."
        )
        async with running(
            command, environment=environment, log=work / "log"
        ) as server:
            verdicts = await stream(server)
        return [*verdicts, *await history(dsn)]


def main() -> int:
    """Measure and print; 0 when the targets were reached."""
    argparse.ArgumentParser(
        prog="tests.benchmarks.chat", description=__doc__
    ).parse_args()
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as work:
        Path(work).chmod(0o755)
        verdicts = uvloop.run(_main(Path(work)))
    print(render(verdicts))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    raise SystemExit(main())
