"""Class migrations as an operator meets them: files, commands, nodes that refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from server.classes import ClassesError, pending, steps_of
from server.config_migrations import Migration, Rename, Transfer
from tests.server.test_cli import durable, environment, get, serving

CODE = """
from agents import Agent, Response

class {name}(Agent):
    initial_state = {{"count": 0}}

    async def on_request(self, request):
        self.set_state({{"count": self.state["count"] + 1}})
        await self.sql("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
        await self.sql("INSERT INTO notes VALUES ('note')")
        rows = await self.sql("SELECT count(*) AS notes FROM notes")
        return Response.json([self.state["count"], rows[0]["notes"]])

class Keeper(Agent):
    initial_state = {{"kept": True}}

    async def on_request(self, request):
        return Response.json(self.state)
"""
RENAME = """
[[migrations]]
tag = "v1"
new_classes = ["Counter"]

[[migrations]]
tag = "v2"
renamed_classes = [{ from = "Counter", to = "Meter" }]
"""
DELETE = """
[[migrations]]
tag = "v1"
deleted_classes = ["Counter"]
"""


class Shop:
    """A project and its database."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.directory = directory
        self.url = database_url
        self.settings = {"DURABLE_DATABASE_URL": database_url}

    def code(self, name: str, configuration: str = "") -> None:
        (self.directory / "app.py").write_text(CODE.format(name=name))
        (self.directory / "durable.toml").write_text(configuration)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return durable(*arguments, cwd=self.directory, **self.settings)

    def does(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuses(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    def visit(self, *paths: str, command: str = "serve") -> list[str]:
        """Serves as long as it takes to get these."""
        with serving(command, "app.py", cwd=self.directory, **self.settings) as served:
            return [get(f"{served[1]}/agents/{path}") for path in paths]

    def query(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def ids(self, name: str) -> dict[str, str]:
        shown = json.loads(self.does("agents", "list", "--class", name, "--json"))
        return {agent["name"]: agent["id"] for agent in shown["agents"]}


@pytest.fixture
def shop(project_dir: Path, database_url: str) -> Shop:
    """With the agents a and b of Counter, and one of Keeper."""
    found = Shop(project_dir, database_url)
    found.code("Counter")
    assert found.visit("counter/a", "counter/b", "keeper/k") == [
        *("[1,1]", "[1,1]", '{"kept":true}')
    ]
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def left(shop: Shop) -> list[int]:
    """How many objects, keys, agents' schemas and agents' roles there are."""
    roles = "WHERE starts_with(rolname, durable.agent_role_prefix())"
    counts = (
        "SELECT count(*) FROM durable.object",
        "SELECT count(*) FROM durable.kv",
        "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, 'agent_')",
        f"SELECT count(*) FROM pg_roles {roles}",
    )
    return [shop.query(count)[0][0] for count in counts]


def test_a_renamed_class_keeps_its_objects_their_ids_and_their_tables(
    shop: Shop,
) -> None:
    before = shop.ids("Counter")
    shop.code("Meter", RENAME)

    assert "'v1', 'v2'" in shop.refuses("serve", "app.py")
    assert "run `durable migrate`" in shop.refuses("serve", "app.py")
    would = shop.does("migrate", "--dry-run")
    assert "Counter: renamed to Meter; 2 objects with their ids" in would
    assert shop.ids("Counter") == before

    assert "Counter: renamed to Meter" in shop.does("migrate")
    assert "renamed" not in shop.does("migrate")  # each tag once
    assert shop.ids("Meter") == before
    assert shop.visit("meter/a", "meter/b") == ["[2,2]", "[2,2]"]
    assert "there are Keeper, Meter" in shop.refuses(
        "agents", "list", "--class", "Counter"
    )


def test_dev_applies_migrations_by_itself_and_on_an_empty_database_too(
    shop: Shop, project_dir: Path, empty_database_url: str
) -> None:
    shop.code("Meter", RENAME)
    assert shop.visit("meter/a", command="dev") == ["[2,2]"]
    empty = Shop(project_dir, empty_database_url)
    assert empty.visit("meter/a", command="dev") == ["[1,1]"]
    assert "applied (main): v2" in empty.does("classes", "list")


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_a_node_whose_code_lacks_a_class_with_data_refuses_and_says_the_way_out(
    shop: Shop, command: str
) -> None:
    shop.code("Meter")
    said = shop.refuses(command, "app.py", "--port", "0")
    assert "objects of Counter (app main)" in said
    assert "durable classes rename Counter Meter" in said
    assert "durable classes delete Counter" in said

    shop.does("classes", "rename", "Counter", "Meter")
    assert shop.visit("meter/a", command=command) == ["[2,2]"]


def test_a_class_without_objects_may_be_missing(shop: Shop) -> None:
    shop.does("classes", "new", "Nobody")
    assert shop.visit("counter/a") == ["[2,2]"]


def test_a_deleted_class_goes_with_all_its_data_and_nothing_else_does(
    shop: Shop,
) -> None:
    assert left(shop) == [3, 3, 2, 2]
    counted = "2 objects, 2 keys"
    would = shop.does("classes", "delete", "Counter", "--dry-run")
    assert counted in would
    assert "2 SQL schemas" in would
    assert "--yes" in shop.refuses("classes", "delete", "Counter")
    assert shop.visit("counter/a") == ["[2,2]"]

    assert counted in shop.does("classes", "delete", "Counter", "--yes")
    assert left(shop) == [1, 1, 0, 0]
    assert shop.query("SELECT name FROM durable.namespace") == [("Keeper",)]
    # Who comes again starts anew, under another tag.
    assert shop.visit("counter/a", "keeper/k") == ["[1,1]", '{"kept":true}']


def test_deleting_is_resumed_after_a_kill(shop: Shop) -> None:
    [(tag,)] = shop.query("SELECT tag FROM durable.namespace WHERE name = 'Counter'")
    shop.query(
        "INSERT INTO durable.kv (shard, object, space, key, value) "
        "SELECT o.shard, o.id, 'user', n::text, '1' FROM durable.object o, "
        "generate_series(1, 60000) n WHERE o.tag = %s",
        tag,
    )
    deleting = subprocess.Popen(
        [sys.executable, "-u", "-m", "server", "classes", "delete", "Counter", "--yes"],
        cwd=shop.directory,
        env=environment(**shop.settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert deleting.stdout is not None
    for line in deleting.stdout:
        if "rows removed so far" in line:
            break
    deleting.send_signal(signal.SIGKILL)
    deleting.communicate()
    [(rest,)] = shop.query("SELECT count(*) FROM durable.kv")
    assert 1 < rest < 120_000
    assert "Counter (being deleted)" in shop.does("classes", "list")

    # Meanwhile the name is free, and the new class has nothing of the old one.
    assert shop.visit("counter/a") == ["[1,1]"]
    assert "all is removed" in shop.does("migrate")
    assert shop.query("SELECT count(*) FROM durable.object WHERE tag = %s", tag) == [
        (0,)
    ]
    assert "being deleted" not in shop.does("classes", "list")
    assert shop.visit("counter/a") == ["[2,2]"]


def test_a_class_that_a_live_worker_serves_is_neither_renamed_nor_deleted(
    shop: Shop,
) -> None:
    with serving("serve", "app.py", cwd=shop.directory, **shop.settings) as served:
        process, url = served
        for change in (("rename", "Counter", "Meter"), ("delete", "Counter", "--yes")):
            said = shop.refuses("classes", *change)
            assert "Counter is served by live workers" in said
            assert "1024 shards" in said
        shop.code("Keeper", DELETE)
        assert "is served by live workers" in shop.refuses("migrate")
        assert get(f"{url}/agents/counter/a") == "[2,2]"

        process.send_signal(signal.SIGKILL)
        process.wait()
        # Gone or just starting? Nobody can tell for a moment.
        assert "if it is gone, try again in" in shop.refuses("migrate")
        shop.query("UPDATE durable.worker SET beat = beat - interval '1 minute'")
        assert "Counter: deleted" in shop.does("migrate")


def test_dev_renames_although_another_dev_node_still_runs(shop: Shop) -> None:
    with serving("dev", "app.py", cwd=shop.directory, **shop.settings):
        shop.code("Meter", RENAME)
        with serving("dev", "app.py", cwd=shop.directory, **shop.settings):
            assert "renamed" not in shop.does("migrate")
            assert set(shop.ids("Meter")) == {"a", "b"}


def test_a_worker_that_slept_through_a_rename_never_serves_again(shop: Shop) -> None:
    held = "SELECT coalesce(sum(held), 0)::int FROM durable.worker_status"
    settings = {**shop.settings, "DURABLE_LEASE_SECONDS": "2"}
    log = shop.directory / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "app.py", "--port", "0"],
            cwd=shop.directory,
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("Ready on ").strip()
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: shop.query(held) == [(0,)])  # Postgres has ended its lane
        shop.query("UPDATE durable.worker SET beat = beat - interval '1 minute'")
        shop.does("classes", "rename", "Counter", "Meter")
        os.kill(process.pid, signal.SIGCONT)
        with pytest.raises(urllib.error.HTTPError, match="503"):
            get(f"{url}/agents/counter/a")
        shop.code("Meter")
        assert shop.visit("meter/a") == ["[2,2]"]  # beside it
        wait_until(lambda: "Counter is called Meter since" in log.read_text())
    finally:
        process.kill()
        process.communicate()


def test_apps_have_classes_of_their_own_until_one_is_transferred(shop: Shop) -> None:
    before = shop.ids("Counter")
    shop.code("Counter", 'name = "mall"')
    transfer = ("classes", "transfer", "Counter", "--from", "main")
    assert shop.visit("keeper/k") == ['{"kept":true}']  # lacks nothing of main's
    shop.query("UPDATE durable.worker SET beat = beat - interval '1 minute'")
    # Our own Counter has no objects yet: it makes room.
    shop.does(*transfer)
    assert shop.ids("Counter") == before
    assert shop.visit("counter/a") == ["[2,2]"]
    assert "the app main" in shop.refuses(*transfer)


def test_a_transfer_takes_the_objects_with_their_ids(shop: Shop) -> None:
    before = shop.ids("Counter")
    configuration = """
        name = "mall"
        [[migrations]]
        tag = "v1"
        [[migrations.transferred_classes]]
        from = "Counter"
        from_script = "main"
        to = "Meter"
    """
    shop.code("Meter", configuration)
    would = shop.does("migrate", "--dry-run")
    assert "of the app main, now ours as Meter; 2 objects" in would
    shop.does("migrate")
    assert shop.ids("Meter") == before
    assert shop.visit("meter/a") == ["[2,2]"]


def test_a_name_with_objects_of_its_own_is_not_overwritten(shop: Shop) -> None:
    said = shop.refuses("classes", "rename", "Counter", "Keeper")
    assert "there is a class Keeper with objects of its own" in said
    assert set(shop.ids("Counter")) == {"a", "b"}


def test_unknown_classes_are_answered_with_those_there_are(shop: Shop) -> None:
    said = shop.refuses("classes", "rename", "Conter", "Meter")
    assert "did you mean Counter?" in said
    assert "there are Counter, Keeper" in said
    other = shop.refuses("classes", "delete", "X", "--app", "mall", "--yes")
    assert "the app mall has none; apps with classes: main" in other
    assert "can't be the name of a class" in shop.refuses("classes", "new", "a-b")


def test_the_list_counts_what_each_class_has(shop: Shop) -> None:
    listed = json.loads(shop.does("classes", "list", "--json"))
    counter, keeper = listed["classes"]
    assert (counter["class"], counter["objects"], counter["with_sql"]) == (
        *("Counter", 2, 2),
    )
    assert (keeper["class"], keeper["objects"], keeper["keys"]) == ("Keeper", 1, 1)


# --- which migrations are pending ------------------------------------------------


def _applied(*migrations: Migration) -> list[Any]:
    from durable.store.classes import Applied

    return [Applied(m.tag, json.loads(json.dumps(steps_of(m)))) for m in migrations]


V1 = Migration("v1", new_classes=("A",), transferred_classes=(Transfer("X", "s", "Y"),))
V2 = Migration("v2", renamed_classes=(Rename("A", "B"),))
V3 = Migration("v3", deleted_classes=("B",))


def test_only_what_was_not_applied_is_pending_in_order() -> None:
    assert pending([V1, V2, V3], _applied(V1)) == [V2, V3]
    assert pending([V1], _applied(V1)) == []
    # Applied by hand, or by a newer configuration: none of ours.
    assert pending([V1], _applied(V1, Migration("by hand"))) == []


def test_a_migration_that_was_changed_after_it_was_applied_is_refused() -> None:
    with pytest.raises(ClassesError, match="'v2' was applied"):
        pending([V1, Migration("v2", deleted_classes=("A",))], _applied(V1, V2))


def test_a_migration_before_one_that_was_applied_is_refused() -> None:
    with pytest.raises(ClassesError, match="'v2' stands before 'v3'"):
        pending([V1, V2, V3], _applied(V1, V3))
