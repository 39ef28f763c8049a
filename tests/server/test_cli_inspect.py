"""Looking into a database, and writing into it, beside and without a running node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.server.test_cli import durable, get, serving

CODE = """
from agents import Agent, Response

class Counter(Agent):
    initial_state = {"count": 0}

    async def on_request(self, request):
        if "look" not in request.query:
            self.set_state({"count": self.state["count"] + 1})
            self.ctx.storage.put("last", b"binary")
        if "sql" in request.query:
            await self.sql("CREATE TABLE IF NOT EXISTS notes (id INT, text TEXT)")
            await self.sql("INSERT INTO notes VALUES (1, 'one'), (2, '50%')")
        return Response.json(self.state)

class Keeper(Agent):
    initial_state = {"kept": True}

    async def on_request(self, request):
        return Response.json(self.state)
"""


class Desk:
    """An operator's: a project, its database, and the command line."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.directory = directory
        self.url = database_url

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return durable(*arguments, cwd=self.directory, DURABLE_DATABASE_URL=self.url)

    def does(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.does(*arguments, "--json"))

    def refuses(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    def visit(self, *paths: str) -> list[str]:
        with serving(
            "serve", "app.py", cwd=self.directory, DURABLE_DATABASE_URL=self.url
        ) as (_, url):
            return [get(f"{url}/agents/{path}") for path in paths]


@pytest.fixture
def desk(project_dir: Path, database_url: str) -> Desk:
    """With agents of two classes, committed, and no node that runs."""
    (project_dir / "app.py").write_text(CODE)
    found = Desk(project_dir, database_url)
    found.visit("counter/lobby?sql=1", "counter/room-1", "counter/room-2", "keeper/k")
    return found


def test_what_is_there_is_listed_by_class_and_name(desk: Desk) -> None:
    listed = desk.json("agents", "list")
    assert [(row["class"], row["name"]) for row in listed["agents"]] == [
        ("Counter", "lobby"),
        ("Counter", "room-1"),
        ("Counter", "room-2"),
        ("Keeper", "k"),
    ]
    assert listed["after"] is None
    lobby = listed["agents"][0]
    assert lobby["sql_schema"] == f"agent_{lobby['id']}"
    assert (lobby["kv_rows"], lobby["app"]) == (2, "main")
    text = desk.does("agents", "list", "--class", "Counter", "--prefix", "room")
    assert [line.split()[1] for line in text.splitlines()[1:]] == ["room-1", "room-2"]


def test_pages_join_into_the_whole_list(desk: Desk) -> None:
    names: list[str] = []
    after: list[str] = []
    while True:
        page = desk.json("agents", "list", "--limit", "3", *after)
        names += [row["name"] for row in page["agents"]]
        if page["after"] is None:
            break
        after = ["--after", page["after"]]
    assert names == ["lobby", "room-1", "room-2", "k"]
    assert "--after is not a cursor" in desk.refuses("agents", "list", "--after", "x")


def test_one_agent_is_shown_with_its_state_keys_and_tables(desk: Desk) -> None:
    shown = desk.json("agents", "show", "Counter/lobby")
    assert shown["state"] == {"count": 1}
    keys = [(key["space"], key["key"], key["kind"]) for key in shown["keys"]]
    assert keys == [("agent", "state", "json"), ("user", "last", "blob")]
    assert [table["name"] for table in shown["tables"]] == ["notes"]
    first = desk.json("agents", "show", "Counter/lobby", "--limit", "1")
    assert [key["key"] for key in first["keys"]] == ["state"]
    rest = desk.json("agents", "show", "Counter/lobby", "--after", first["after"])
    assert ([key["key"] for key in rest["keys"]], rest["after"]) == (["last"], None)
    assert "not a cursor" in desk.refuses(
        "agents", "show", "Counter/lobby", "--after", "x"
    )
    by_id = desk.json("agents", "show", f"Counter/{shown['id']}", "--id")
    assert by_id == shown
    assert "notes" in desk.does("agents", "show", "Counter/lobby")


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("Conter/lobby", "did you mean Counter?"),
        ("Nothing/x", "there are Counter, Keeper"),
        ("Counter/nobody", "durable agents list --class Counter"),
        ("Counter", "isn't CLASS/NAME"),
    ],
)
def test_who_isnt_there_is_answered_with_who_is(
    desk: Desk, agent: str, said: str
) -> None:
    assert said in desk.refuses("agents", "show", agent)


def test_a_query_reads_and_can_not_write(desk: Desk) -> None:
    read = desk.json("sql", "Counter/lobby", "SELECT id, text FROM notes ORDER BY id")
    assert read == {
        "rows": [{"id": 1, "text": "one"}, {"id": 2, "text": "50%"}],
        "more": False,
    }
    few = desk.json("sql", "Counter/lobby", "SELECT id FROM notes", "--limit", "1")
    assert (len(few["rows"]), few["more"]) == (1, True)
    for statement in (
        "DELETE FROM notes",
        "CREATE TABLE more (a INT)",
        "WITH gone AS (DELETE FROM notes RETURNING id) SELECT * FROM gone",
    ):
        assert "read-only transaction" in desk.refuses(
            "sql", "Counter/lobby", statement
        )
    for statement in (
        "COMMIT",
        "SET TRANSACTION READ WRITE",
        "SELECT * FROM durable.kv",
        "SELECT set_config('role', 'postgres', true)",
    ):
        assert "not permitted" in desk.refuses("sql", "Counter/lobby", statement)
    assert "line 1, column 8" in desk.refuses("sql", "Counter/lobby", "SELECT nothing")
    assert "never used SQL" in desk.refuses("sql", "Counter/room-1", "SELECT 1")


def test_writes_without_a_node_are_found_by_the_next_one(desk: Desk) -> None:
    update = ("sql", "Counter/lobby", "UPDATE notes SET text = 'new' WHERE id = 1")
    assert "--yes" in desk.refuses(*update, "--write")
    assert "committed, 1 rows written" in desk.does(*update, "--write", "--yes")
    made = ("CREATE TABLE first (a INT)", "--write", "--yes")
    desk.does("sql", "Counter/room-1", *made)  # its schema is made with it
    assert desk.json("sql", "Counter/room-1", "SELECT * FROM first")["rows"] == []
    rows = desk.json("sql", "Counter/lobby", "SELECT text FROM notes ORDER BY 1")
    assert rows["rows"] == [{"text": "50%"}, {"text": "new"}]

    assert desk.does("state", "get", "Counter/lobby") == '{"count":1}\n'
    desk.does("state", "set", "Counter/lobby", '{ "count": 41 }', "--yes")
    assert desk.does("state", "get", "Counter/lobby") == '{"count":41}\n'
    assert desk.visit("counter/lobby", "counter/room-1") == [
        *('{"count":42}', '{"count":2}')
    ]
    # The operator's claim left nothing behind.
    [owner] = desk.json("shards")["shards"]
    assert (owner["owner"], owner["shards"], owner["held"]) == (None, 1024, 0)


@pytest.mark.parametrize("state", ["{count: 1}", '{"a": "\\u0000"}', ""])
def test_a_state_that_an_agent_could_not_store_is_refused(
    desk: Desk, state: str
) -> None:
    refused = desk.refuses("state", "set", "Counter/lobby", state, "--yes")
    assert "the state must be JSON" in refused


def test_beside_a_live_worker_everything_is_seen_and_nothing_is_written(
    desk: Desk,
) -> None:
    with serving(
        "serve", "app.py", cwd=desk.directory, DURABLE_DATABASE_URL=desk.url
    ) as (_, url):
        assert get(f"{url}/agents/counter/lobby") == '{"count":2}'
        for write in (
            ("state", "set", "Counter/lobby", "{}"),
            ("sql", "Counter/lobby", "DELETE FROM notes", "--write"),
            ("agents", "delete", "Counter/lobby"),
        ):
            said = desk.refuses(*write, "--yes")
            assert "belongs to the live worker 127.0.0.1:0" in said
        assert desk.does("state", "get", "Counter/lobby") == '{"count":2}\n'

        [worker] = desk.json("workers")["workers"]
        assert (worker["live"], worker["shards"], worker["held"]) == (True, 1024, 1024)
        [owner] = desk.json("shards")["shards"]
        assert (owner["owner"], owner["shards"]) == (worker["id"], 1024)
        mine = desk.json("agents", "list", "--owner", worker["id"][:8])
        assert len(mine["agents"]) == 4
        assert "no worker nobody" in desk.refuses("agents", "list", "--owner", "nobody")
        assert get(f"{url}/agents/counter/lobby?look=1") == '{"count":2}'


def test_after_a_kill_the_shard_is_taken_under_a_new_epoch(desk: Desk) -> None:
    with serving(
        "serve", "app.py", cwd=desk.directory, DURABLE_DATABASE_URL=desk.url
    ) as (process, _):
        process.kill()
        process.wait()
    before = desk.json("agents", "show", "Counter/lobby")
    desk.does("state", "set", "Counter/lobby", '{"count": 7}', "--yes")
    after = desk.json("agents", "show", "Counter/lobby")
    assert after["epoch"] == before["epoch"] + 1
    assert (before["owner"] is not None, after["owner"]) == (True, None)
    assert desk.visit("counter/lobby") == ['{"count":8}']


def test_a_deleted_agent_starts_anew_and_its_neighbours_stay(desk: Desk) -> None:
    deleted = desk.json("agents", "show", "Counter/lobby")
    assert "--yes" in desk.refuses("agents", "delete", "Counter/lobby")
    desk.does("agents", "delete", "Counter/lobby", "--yes")
    desk.does("agents", "delete", "Counter/room-1", "--yes")  # without SQL
    listed = desk.json("agents", "list")["agents"]
    assert [row["name"] for row in listed] == ["room-2", "k"]
    with psycopg.connect(desk.url) as connection:
        left = connection.execute(
            "SELECT (SELECT count(*) FROM durable.kv), to_regnamespace(%s), "
            "to_regrole(durable.agent_role_prefix() || %s)",
            (deleted["sql_schema"], deleted["id"]),
        ).fetchone()
    assert left == (3, None, None)
    assert desk.visit("counter/lobby", "counter/room-2") == [
        *('{"count":1}', '{"count":2}')
    ]


def test_the_database_of_dev_is_found_running_or_not(project_dir: Path) -> None:
    (project_dir / "app.py").write_text(CODE)
    none = durable("workers", cwd=project_dir)
    assert none.returncode == 1
    assert "no DURABLE_DATABASE_URL is set" in none.stderr
    with serving("dev", cwd=project_dir) as (_, url):
        get(f"{url}/agents/counter/a")
        assert (
            '"count": 1'
            in durable("agents", "show", "Counter/a", cwd=project_dir).stdout
        )
        assert "1024" in durable("workers", cwd=project_dir).stdout
    stopped = durable("state", "get", "Counter/a", cwd=project_dir)
    assert stopped.stdout == '{"count":1}\n', stopped.stderr
