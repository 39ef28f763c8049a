"""What commands on a database share: finding it, asking, printing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from server import logs
from server.config import load_project
from server.settings import Settings


class CommandError(Exception):
    """A command on the database can't be done; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Site:
    """The database that a command works on, migrated, and the settings for it."""

    settings: Settings
    dsn: str
    shards: int


def run_command(work: Callable[[Site], Awaitable[None]]) -> int:
    """Find the database and do the work; errors of it become ``CommandError``."""
    asyncio.run(_run(work))
    return 0


async def _run(work: Callable[[Site], Awaitable[None]]) -> None:
    import asyncpg

    from durable.domain.errors import DurableError
    from server.migrate import check_schema

    settings = Settings.from_environment(os.environ, project=load_project(Path.cwd()))
    logs.configure("warning", structured=False)
    async with opened_site(settings) as dsn:
        shards = await check_schema(dsn, None)
        try:
            await work(Site(settings, dsn, shards))
        except DurableError as error:
            raise CommandError(str(error)) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CommandError(f"Postgres refused: {error}") from error


@asynccontextmanager
async def opened_site(settings: Settings) -> AsyncIterator[str]:
    """The one that is set, else the embedded one, running or not."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    from server.embedded_postgres import data_location, embedded_postgres

    if not data_location(settings.data_dir).is_dir():
        raise CommandError(
            "no DURABLE_DATABASE_URL is set, and `durable dev` has made no database "
            f"here ({settings.data_dir})"
        )
    async with embedded_postgres(settings.data_dir) as dsn:
        yield dsn


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that can't be undone.

    Raises:
        CommandError: the answer isn't yes, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Say so with --yes: there is nobody to ask here")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was changed")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    raise TypeError(f"no JSON for {type(value).__name__}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Aligned columns; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(len(text) for text in column)
        for column in zip(columns, *cells, strict=True)
    ]
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        for i in range(len(columns))
    ]
    for line in (list(columns), *cells):
        shown = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(shown).rstrip())


def print_fields(fields: Mapping[str, Any]) -> None:
    """One thing, a line for each of its fields."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    if isinstance(value, bytes):
        return str(_plain(value))
    # A name may contain anything, also what would move a terminal's cursor.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))
