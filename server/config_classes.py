"""``[[migrations]]``: from tables to data, and what can't be told apart is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from server.config_migrations import Migration, Rename, Transfer
from server.config_reader import ConfigError, Table

_KEYS: Final = (
    "tag",
    "new_classes",
    "new_sqlite_classes",
    "renamed_classes",
    "deleted_classes",
    "transferred_classes",
)


def parse_migrations(root: Table) -> tuple[Migration, ...]:
    """All steps, in the order of the file.

    Raises:
        ConfigError: a bad table; a tag that was used; steps that contradict each other.
    """
    history = _History()
    return tuple(history.add(table) for table in root.tables("migrations"))


def gone_classes(migrations: Iterable[Migration]) -> dict[str, str]:
    """The classes that are no more after all steps → the tag of the step."""
    gone: dict[str, str] = {}
    for migration in migrations:
        gone |= {name: migration.tag for _, name in _leaving(migration)}
        for _, name in _coming(migration):
            gone.pop(name, None)
    return gone


class _History:
    """The steps so far: which classes they have made, and which are gone."""

    def __init__(self) -> None:
        self._tags: set[str] = set()
        self._made: dict[str, str] = {}  # class → tag
        self._gone: dict[str, str] = {}

    def add(self, table: Table) -> Migration:
        """Read the next step."""
        table.only(_KEYS)
        tag = table.required("tag")
        if tag in self._tags:
            raise table.error("tag", f"{tag!r} is the tag of an earlier migration")
        self._tags.add(tag)
        migration = Migration(
            tag=tag,
            new_classes=table.names("new_classes") + table.names("new_sqlite_classes"),
            renamed_classes=tuple(_renames(table)),
            deleted_classes=table.names("deleted_classes"),
            transferred_classes=tuple(_transfers(table)),
        )
        _once(table, migration)
        self._replay(table, migration)
        return migration

    def _replay(self, table: Table, migration: Migration) -> None:
        tag = migration.tag
        for key, name in _leaving(migration):
            if name in self._gone:
                text = f"{name} is gone since the migration {self._gone[name]!r}"
                raise _error(table, key, name, text)
            self._gone[name] = tag
            self._made.pop(name, None)
        for key, name in _coming(migration):
            if name in self._made:
                text = f"{name} is there since the migration {self._made[name]!r}"
                raise _error(table, key, name, text)
            self._made[name] = tag
            self._gone.pop(name, None)


def _renames(table: Table) -> Iterator[Rename]:
    for entry in table.tables("renamed_classes"):
        entry.only(("from", "to"))
        yield Rename(from_=entry.name("from"), to=entry.name("to"))


def _transfers(table: Table) -> Iterator[Transfer]:
    for entry in table.tables("transferred_classes"):
        entry.only(("from", "from_script", "to"))
        yield Transfer(
            from_=entry.name("from"),
            from_script=entry.required("from_script"),
            to=entry.name("to"),
        )


def _leaving(migration: Migration) -> Iterator[tuple[str, str]]:
    """Key and class, for each class that is no more after this step."""
    for rename in migration.renamed_classes:
        yield "renamed_classes", rename.from_
    for name in migration.deleted_classes:
        yield "deleted_classes", name


def _coming(migration: Migration) -> Iterator[tuple[str, str]]:
    """Key and class, for each class that this step makes."""
    for name in migration.new_classes:
        yield "new_classes", name
    for rename in migration.renamed_classes:
        yield "renamed_classes", rename.to
    for transfer in migration.transferred_classes:
        yield "transferred_classes", transfer.to


def _once(table: Table, migration: Migration) -> None:
    """Within one step there is no order, so a class may be in it only once."""
    seen: set[str] = set()
    for key, name in (*_leaving(migration), *_coming(migration)):
        if name in seen:
            text = f"{name} is twice in this migration: make two of it, in order"
            raise _error(table, key, name, text)
        seen.add(name)


def _error(table: Table, key: str, name: str, text: str) -> ConfigError:
    if key == "new_classes" and name in table.texts("new_sqlite_classes"):
        key = "new_sqlite_classes"
    return table.error(key, text)
