"""The demo: a room with a tally that every open tab sees change.

Run it with ``make run``, or ``durable dev server/demo/app.py``. The page beside this
file speaks the agents' wire by itself, without a build step; ``curl`` works too:

    curl -X POST http://127.0.0.1:8787/agents/room/lobby -d '{"by": 5}'
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from agents import (
    Agent,
    Connection,
    ConnectionContext,
    Request,
    Response,
    StreamingResponse,
    callable,
    get_current_agent,
    route_agent_request,
)

Colour = Literal["amber", "coral", "violet", "blue", "teal", "green"]
Note = Annotated[str, msgspec.Meta(max_length=80)]
LARGEST_STEP = 1_000
ROWS_KEPT = 500
ROWS_SHOWN = 50
MOST_PRIMES = 100
PRIME_PAUSE = 0.06
# The answer to "end yourself" is with the tab before it happens.
LAST_WORDS = 0.3
# `durable dev` has put a front end before this process, and starts it again.
MAY_END = os.environ.get("DURABLE_ROLE") == "worker"


class RoomState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every tab of a room shows; what doesn't fit these types is refused."""

    count: int = 0
    note: Note = ""
    colour: Colour = "amber"


class Room(Agent[Any, RoomState]):
    """One shared tally: its state is live in every tab, its past is in SQL rows."""

    initial_state = RoomState()

    async def on_start(self, props: object = None) -> None:
        """Make the table of this room, in the room's own Postgres schema."""
        await self.sql(
            """
            CREATE TABLE IF NOT EXISTS change (
                id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                at    TIMESTAMPTZ NOT NULL DEFAULT now(),
                who   TEXT NOT NULL,
                what  TEXT NOT NULL,
                count BIGINT NOT NULL
            )
            """
        )
        self.broadcast(owned_by())

    @callable(description="Add to the tally; everybody sees the new state")
    async def add(self, by: int = 1) -> int:
        """State and row commit together, and only then does anybody hear of it."""
        if not -LARGEST_STEP <= by <= LARGEST_STEP:
            raise ValueError(f"by must be between -{LARGEST_STEP} and {LARGEST_STEP}")
        count = self.state.count + by
        self.set_state(replace(self.state, count=count))
        await self._record(caller_name(), f"{by:+d}")
        return count

    @callable(description="Set the tally to zero and forget the rows")
    async def reset(self) -> None:
        """Start the room afresh."""
        self.set_state(replace(self.state, count=0))
        await self.sql("DELETE FROM change")
        self.broadcast(json.dumps({"type": "rows-cleared"}))

    @callable(description="The newest rows of the table, newest first")
    async def history(self, limit: int = 12) -> list[dict[str, Any]]:
        """Read rows with the room's own SQL."""
        return list(
            await self.sql(
                "SELECT id, at, who, what, count FROM change ORDER BY id DESC LIMIT $1",
                max(1, min(limit, ROWS_SHOWN)),
            )
        )

    @callable(streaming=True, description="Prime numbers, one by one")
    async def primes(self, stream: StreamingResponse, count: int = 25) -> None:
        """Send each prime as it is found, then their sum as the final value."""
        found: list[int] = []
        candidate = 2
        while len(found) < min(count, MOST_PRIMES) and not stream.is_closed:
            if all(candidate % prime for prime in found):
                found.append(candidate)
                stream.send(candidate)
                await asyncio.sleep(PRIME_PAUSE)
            candidate += 1
        stream.end({"sum": sum(found)})

    @callable(description="The process that this room lives in")
    def owner(self) -> int:
        """Tell its number."""
        return os.getpid()

    @callable(description="Kill that process; another one goes on")
    def kill_owner(self) -> None:
        """SIGKILL: nothing can be tidied up."""
        self._end(signal.SIGKILL)

    @callable(description="End that process as a deploy does")
    def drain_owner(self) -> None:
        """SIGTERM: what runs may end, and the rooms are handed over."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if not MAY_END:
            raise ValueError("this process holds your socket, too: run `durable dev`")
        loop = asyncio.get_running_loop()
        loop.call_later(LAST_WORDS, os.kill, os.getpid(), how)

    def validate_state_change(
        self, next_state: RoomState, source: Connection | str
    ) -> None:
        """Let a tab write the note and the colour, but count only through ``add``."""
        if source != "server" and next_state.count != self.state.count:
            raise ValueError("the count changes by calling add")

    async def on_state_changed(
        self, state: RoomState, source: Connection | str
    ) -> None:
        """Keep a row of what a tab wrote into the state directly."""
        if isinstance(source, Connection):
            what = f"{state.colour}, “{state.note}”"
            await self._record(visitor_name(source), what)

    async def on_connect(self, connection: Connection, ctx: ConnectionContext) -> None:
        """Remember who it is and tell everybody."""
        who = ctx.request.query.get("who", "").strip()[:24]
        connection.set_state({"who": who or "Somebody"})
        connection.send(owned_by())
        self._announce()

    async def on_close(
        self, connection: Connection, code: int, reason: str, was_clean: bool
    ) -> None:
        """Tell those who stay."""
        self._announce(without=connection)

    async def on_request(self, request: Request) -> Response:
        """Answer curl: GET reads the room, POST adds to it."""
        if request.method == "POST":
            asked = json.loads(await request.text() or "{}")
            by = asked.get("by", 1) if isinstance(asked, dict) else None
            if type(by) is not int:
                return Response.json({"error": 'send {"by": 5}'}, status=400)
            return Response.json({"count": await self.add(by)})
        state = msgspec.to_builtins(self.state)
        return Response.json({"state": state, "rows": await self.history()})

    async def _record(self, who: str, what: str) -> None:
        """Add a row and show it to every tab; now and then forget the oldest."""
        (row,) = await self.sql(
            "INSERT INTO change (who, what, count) VALUES ($1, $2, $3) "
            "RETURNING id, at, who, what, count",
            who,
            what,
            self.state.count,
        )
        if row["id"] % ROWS_KEPT == 0:
            await self.sql("DELETE FROM change WHERE id <= $1", row["id"] - ROWS_KEPT)
        self.broadcast(json.dumps({"type": "row", "row": row}))

    def _announce(self, without: Connection | None = None) -> None:
        present = [c for c in self.get_connections() if c is not without]
        people = [visitor_name(connection) for connection in present]
        self.broadcast(
            json.dumps({"type": "people", "people": people}),
            without=[] if without is None else [without.id],
        )


def owned_by() -> str:
    """The frame that tells a tab where its room lives."""
    return json.dumps({"type": "owner", "pid": os.getpid()})


def visitor_name(connection: Connection) -> str:
    """The name a tab gave when it connected."""
    return str((connection.state or {}).get("who", "Somebody"))


def caller_name() -> str:
    """Who asked for the change that is being made: a tab, or a plain request."""
    connection = get_current_agent().connection
    return "curl" if connection is None else visitor_name(connection)


# A fixed list of files: no path from a request ever reaches the file system.
PAGE = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/agent-socket.js": ("agent-socket.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/app.py": ("app.py", "text/plain; charset=utf-8"),
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


async def fetch(request: Request, env: Any) -> Response:
    """Route to a room, else serve the page."""
    answer = await route_agent_request(request, env)
    return answer or serve_file(request)


def serve_file(request: Request) -> Response:
    """Answer with one of the page's files."""
    if request.path not in FILES:
        return Response("Not found", status=404, headers=HEADERS)
    if request.method not in {"GET", "HEAD"}:
        return Response(
            "Method not allowed", status=405, headers={**HEADERS, "Allow": "GET, HEAD"}
        )
    name, content_type = FILES[request.path]
    headers = {**HEADERS, "Content-Type": content_type}
    body = b"" if request.method == "HEAD" else (PAGE / name).read_bytes()
    return Response(body, headers=headers)
