"""``durable schedules|queue|dead-letters`` beside a node, and in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.test_cli import get, serving
from tests.server.test_cli_inspect import Desk

CODE = """
import asyncio

from agents import Agent, Response

class Planner(Agent):
    def on_start(self):
        self.ran = asyncio.Event()

    async def on_request(self, request):
        what = request.query["do"]
        if what == "plan":
            await self.schedule(3600, "note", {"n": 1})
            await self.schedule("0 8 * * 1", "note", "x" * 99, timezone="Europe/Berlin")
        elif what == "fail":
            await self.queue("fail", "a letter", retry={"max_attempts": 1})
            await self.ran.wait()
        elif what == "hold":
            await self.queue("hold", "first")
            await self.queue("note", "second", id="second")
            await self.ran.wait()
        elif what == "mend":
            await self.ran.wait()
        return Response("done")

    def note(self, payload):
        pass

    def fail(self, payload):
        if not WELL:
            raise ValueError("not yet")
        self.ran.set()

    async def hold(self, payload):
        self.ran.set()
        await asyncio.Event().wait()

    def on_error(self, error, connection=None):
        self.ran.set()
"""


@pytest.fixture
def desk(project_dir: Path, database_url: str) -> Desk:
    (project_dir / "app.py").write_text(CODE.replace("WELL", "False"))
    return Desk(project_dir, database_url)


def test_schedules_are_listed_beside_a_node_and_cancelled_without_one(
    desk: Desk,
) -> None:
    with serving(
        "serve", "app.py", cwd=desk.directory, DURABLE_DATABASE_URL=desk.url
    ) as (_, url):
        get(f"{url}/agents/planner/a?do=plan")
        get(f"{url}/agents/planner/b?do=plan")
        first, *others = desk.json("schedules", "list")["schedules"]
        assert len(others) == 3
        assert (first["class"], first["name"], first["callback"]) == (
            "Planner",
            "a",
            "note",
        )
        assert first["payload"] == {"n": 1}
        assert len(desk.json("schedules", "list", "Planner/b")["schedules"]) == 2
        shown = desk.does("schedules", "list", "--class", "Planner", "--limit", "3")
        assert "Europe/Berlin" in shown
        assert "more than 3" in shown
        refused = desk.refuses("schedules", "cancel", "Planner/a", first["id"], "--yes")
        assert "live worker" in refused
        assert desk.does("queue", "list") == "nothing\n"
    assert "no nothing" in desk.refuses(
        "schedules", "cancel", "Planner/a", "nothing", "--yes"
    )
    done = desk.does("schedules", "cancel", "Planner/a", first["id"], "--yes")
    assert done == f"the schedule {first['id']} is cancelled\n"
    left = desk.json("schedules", "list", "Planner/a")["schedules"]
    assert [row["type"] for row in left] == ["cron"]


def test_a_dead_letter_is_replayed_when_the_next_node_comes(desk: Desk) -> None:
    desk.visit("planner/a?do=fail", "planner/b?do=fail")
    letters = desk.json("dead-letters", "list")["dead-letters"]
    assert [letter["error"] for letter in letters] == ["ValueError: not yet"] * 2
    first, second = (f"Planner/{letter['name']}" for letter in letters)
    desk.does("dead-letters", "cancel", second, letters[1]["id"], "--yes")
    desk.does("dead-letters", "replay", first, letters[0]["id"], "--yes")
    assert desk.json("dead-letters", "list")["dead-letters"] == []
    (desk.directory / "app.py").write_text(CODE.replace("WELL", "True"))
    path = first.lower()
    assert desk.visit(f"{path}?do=mend") == ["done"]
    assert desk.json("queue", "list")["queue"] == []


def test_items_of_the_queue_are_listed_and_taken_out(desk: Desk) -> None:
    with serving(
        "serve",
        "app.py",
        cwd=desk.directory,
        DURABLE_DATABASE_URL=desk.url,
        DURABLE_DRAIN_SECONDS="0.1",
    ) as (_, url):
        get(f"{url}/agents/planner/a?do=hold")
        items = desk.json("queue", "list")["queue"]
        assert [item["payload"] for item in items] == ["first", "second"]
        assert items[0]["started"] is not None
    desk.does("queue", "cancel", "Planner/a", "second", "--yes")
    left = desk.json("queue", "list", "Planner/a")["queue"]
    assert [item["payload"] for item in left] == ["first"]
