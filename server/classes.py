"""Class migrations: which are pending, what each does, and who may start when.

The steps of a tag, and the note that they were applied, are one transaction; a dry run
is the same transaction, rolled back. Only the rows of deleted classes go afterwards,
in batches, and whoever comes next takes up what was interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from durable.store import classes as store
from durable.store.classes import Announcement, Applied, StoredClass
from server.config_migrations import Migration
from server.config_project import Project
from server.migrate import unreachable

DEFAULT_APP: Final = "main"
_CONNECT_SECONDS: Final = 10
# A worker that holds no shard and was heard of so lately may be starting.
_STARTING_SECONDS: Final = 15

Say = Callable[[str], None]


class ClassesError(Exception):
    """Classes and database don't fit, or a change is refused; the text says the way."""


class _RolledBackError(Exception):
    """Ends the transaction of a dry run."""


def app_of(project: Project) -> str:
    """The app whose classes these are: ``name`` of the configuration."""
    return project.name or DEFAULT_APP


def pending(
    migrations: Sequence[Migration], applied: Sequence[Applied]
) -> list[Migration]:
    """The migrations that are still to be applied.

    Raises:
        ClassesError: one was changed after it was applied, or put before one that was.
    """
    done = {entry.tag: entry.steps for entry in applied}
    waiting: list[Migration] = []
    for migration in migrations:
        if migration.tag not in done:
            waiting.append(migration)
            continue
        if done[migration.tag] != steps_of(migration):
            raise ClassesError(
                f"the class migration {migration.tag!r} was applied to this database "
                f"with other steps ({done[migration.tag]}): put it back as it was, and "
                "write what is new as a migration of its own at the end"
            )
        if waiting:
            raise ClassesError(
                f"the class migration {waiting[0].tag!r} stands before "
                f"{migration.tag!r}, which was applied already: they are applied in "
                "order, so move it to the end"
            )
    return waiting


def steps_of(migration: Migration) -> dict[str, Any]:
    """A migration's steps as they are written down."""
    steps: dict[str, Any] = {
        "new_classes": list(migration.new_classes),
        "renamed_classes": [
            {"from": rename.from_, "to": rename.to}
            for rename in migration.renamed_classes
        ],
        "deleted_classes": list(migration.deleted_classes),
        "transferred_classes": [
            {"from": t.from_, "from_script": t.from_script, "to": t.to}
            for t in migration.transferred_classes
        ],
    }
    return {key: value for key, value in steps.items() if value}


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """A connection of one's own.

    Raises:
        ClassesError: the database can't be reached.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=_CONNECT_SECONDS,
            server_settings={"application_name": "durable classes", "jit": "off"},
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise ClassesError(unreachable(dsn, error)) from error
    try:
        yield connection
    finally:
        await connection.close()


async def migrate_classes(
    dsn: str, project: Project, say: Say, *, dev: bool = False, dry_run: bool = False
) -> None:
    """Apply what is pending of the configuration's migrations, then purge.

    ``dev``: although live workers serve the classes.

    Raises:
        ClassesError: with the way out; nothing was changed.
    """
    app = app_of(project)
    async with connected(dsn) as connection:
        async with _changing(connection, dry_run):
            applied = await store.applied(connection, app)
            for migration in pending(project.migrations, applied):
                change = Change(connection, app, say, dev=dev)
                await change.apply(migration)
        if not dry_run:
            await purge(connection, say)


async def change_classes(
    connection: Any, app: str, migration: Migration, say: Say, *, dry_run: bool = False
) -> None:
    """Apply a migration that was given on the command line, then purge.

    Raises:
        ClassesError: with the way out; nothing was changed.
    """
    async with _changing(connection, dry_run):
        await Change(connection, app, say, strict=True).apply(migration)
    if not dry_run:
        await purge(connection, say)


async def purge(connection: Any, say: Say) -> None:
    """Remove what is left of deleted classes."""
    if not await store.purge(connection, say):
        say("another process is removing the rows of deleted classes")


@asynccontextmanager
async def _changing(connection: Any, dry_run: bool) -> AsyncIterator[None]:
    try:
        async with store.alone(connection):
            yield
            if dry_run:
                raise _RolledBackError
    except _RolledBackError:
        return


class Change:
    """One migration's steps, in the transaction that the connection is in."""

    def __init__(
        self,
        connection: Any,
        app: str,
        say: Say,
        *,
        dev: bool = False,
        strict: bool = False,
    ) -> None:
        """``strict``: a class that isn't there is an error, not a step done already."""
        self._connection = connection
        self._app = app
        self._say = say
        self._dev = dev
        self._strict = strict

    async def apply(self, migration: Migration) -> None:
        """Take all steps and write down that they were taken."""
        for name in migration.new_classes:
            await self._new(name)
        for rename in migration.renamed_classes:
            await self._move(self._app, rename.from_, rename.to)
        for transfer in migration.transferred_classes:
            await self._move(transfer.from_script, transfer.from_, transfer.to)
        for name in migration.deleted_classes:
            await self._delete(name)
        await store.record(
            self._connection, self._app, migration.tag, steps_of(migration)
        )

    async def _new(self, name: str) -> None:
        if await store.find(self._connection, self._app, name) is not None:
            self._say(f"{name}: is there already")
            return
        await store.make(self._connection, self._app, [name])
        self._say(f"{name}: new")

    async def _move(self, app: str, old: str, new: str) -> None:
        found = await self._find(app, old)
        if found is None:
            return
        await self._require_unserved(found)
        await self._free(new, found)
        await store.move(self._connection, found.tag, self._app, new)
        objects = (await store.size(self._connection, found.tag)).objects
        whence = "renamed to" if app == self._app else f"of the app {app}, now ours as"
        self._say(f"{old}: {whence} {new}; {_many(objects, 'object')} with their ids")
        await self._retire(found, f"{old} is called {new} since it started")

    async def _delete(self, name: str) -> None:
        found = await self._find(self._app, name)
        if found is None:
            return
        await self._require_unserved(found)
        size = await store.size(self._connection, found.tag)
        await store.doom(self._connection, found.tag)
        self._say(
            f"{name}: deleted, with {_many(size.objects, 'object')}, "
            f"{_many(size.keys, 'key')} ({size.bytes:,} bytes) and "
            f"{_many(size.schemas, 'SQL schema')} with their roles"
        )
        await self._retire(found, f"{name} was deleted since it started")

    async def _free(self, name: str, moved: StoredClass) -> None:
        """See that no other class has the name; one without objects makes room."""
        other = await store.find(self._connection, self._app, name)
        if other is None or other.tag == moved.tag:
            return
        if await store.used(self._connection, [other.tag]):
            raise ClassesError(
                f"{moved.name} can't become {name}: there is a class {name} with "
                f"objects of its own. Rename or delete that one first "
                f"(`durable classes rename {name} …`, `durable classes delete {name}`)"
            )
        await self._require_unserved(other)
        await store.doom(self._connection, other.tag)
        await self._retire(other, f"{name} is another class since it started")

    async def _find(self, app: str, name: str) -> StoredClass | None:
        found = await store.find(self._connection, app, name)
        if found is None and self._strict:
            raise no_such_class(await store.listed(self._connection), app, name)
        if found is None:
            # A database that is new has nothing to rename or delete.
            self._say(f"{name}: there is no such class here, nothing to do")
        return found

    async def _require_unserved(self, found: StoredClass) -> None:
        if self._dev:
            return
        live = await store.serving(self._connection, found.tag)
        if not live:
            return
        lines = [
            f"  {worker.address}  {worker.worker}  "
            + (f"{worker.held} shards" if worker.held else _starting(worker))
            for worker in live
        ]
        shown = "\n".join(lines)
        raise ClassesError(
            f"{found.name} is served by live workers, which would go on under the old "
            f"name:\n{shown}\nStop every node of the app {found.app}, change its "
            "classes, and start the new code"
        )

    async def _retire(self, found: StoredClass, why: str) -> None:
        if not self._dev:
            await store.retire(self._connection, found.tag, why)


def _starting(worker: store.Serving) -> str:
    rest = max(1, round(_STARTING_SECONDS - worker.silent_seconds))
    return (
        f"no shards, but it was there {worker.silent_seconds:.0f} s ago; if it is "
        f"gone, try again in {rest} s"
    )


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def no_such_class(
    found: Sequence[StoredClass], app: str, name: str, what: str = "class"
) -> ClassesError:
    """Says which classes there are."""
    there = [entry.name for entry in found if entry.app == app and not entry.doomed]
    near = difflib.get_close_matches(name, there, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    if there:
        return ClassesError(
            f"there is no {what} {name} in the app {app}{hint}; there are "
            + ", ".join(there)
        )
    apps = sorted({entry.app for entry in found if not entry.doomed})
    others = f"; apps with classes: {', '.join(apps)}" if apps else ""
    return ClassesError(f"there is no {what} {name}: the app {app} has none{others}")


async def admit(
    connection: Any, project: Project, names: Sequence[str], worker: Announcement
) -> dict[str, int]:
    """Let a worker start if its classes fit the database; the tag of each class.

    A class that is new is made. The worker's row says from now on what it serves.

    Raises:
        ClassesError: a migration is pending, or the code lacks a class that has data.
    """
    app = app_of(project)
    async with store.together(connection):
        applied = await store.applied(connection, app)
        waiting = pending(project.migrations, applied)
        if waiting:
            tags = ", ".join(repr(migration.tag) for migration in waiting)
            raise ClassesError(
                f"class migrations of the configuration wait to be applied ({tags}): "
                "run `durable migrate`"
            )
        await _require_all(connection, app, names)
        # In one order everywhere: nodes that start at once must not lock crosswise.
        found = await store.make(connection, app, sorted(names))
        await store.announce(connection, worker, list(found.values()))
    return found


async def _require_all(connection: Any, app: str, names: Sequence[str]) -> None:
    stored = [
        entry
        for entry in await store.listed(connection)
        if entry.app == app and not entry.doomed
    ]
    lacking = [entry for entry in stored if entry.name not in names]
    used = await store.used(connection, [entry.tag for entry in lacking])
    lacking = [entry for entry in lacking if entry.tag in used]
    if not lacking:
        return
    known = {entry.name for entry in stored}
    added = [name for name in names if name not in known]
    new = added[0] if len(added) == 1 else "NEW"
    ways = "".join(
        f"\n  durable classes rename {entry.name} {new}"
        f"\n  durable classes delete {entry.name}"
        for entry in lacking
    )
    shown = " and ".join(entry.name for entry in lacking)
    raise ClassesError(
        f"this database has objects of {shown} (app {app}), but the code has no such "
        f"class. If its name has changed, or its data shall go:{ways}\n(or the same "
        "as [[migrations]] in durable.toml, and `durable migrate`). If this is "
        "another app, give it a `name` of its own in durable.toml"
    )
