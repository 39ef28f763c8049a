"""``durable agents|workers|shards``: what is in the database, and whose."""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from server.cli_agent import (
    add_agent,
    add_common,
    classes_of,
    count,
    opened_agent,
    opened_connection,
)
from server.cli_database import (
    CommandError,
    Site,
    print_fields,
    print_json,
    print_table,
    run_command,
)

if TYPE_CHECKING:
    from durable.store.inspect import AgentRow, Place


def add_commands(commands: Any) -> Any:
    """Adds the commands to the parser's; returns what is below ``agents``."""
    agents = commands.add_parser("agents", help="list, show and delete agents")
    below = agents.add_subparsers(required=True, metavar="COMMAND")
    listed = below.add_parser("list", help="agents by class and name")
    listed.add_argument("--class", dest="class_name", help="of this class only")
    listed.add_argument("--prefix", default="", help="whose names begin so")
    listed.add_argument("--owner", help="of this worker: address, or the id's start")
    listed.add_argument("--limit", type=count, default=100, help="at most so many")
    listed.add_argument("--after", metavar="CURSOR", help="go on from a former list")
    add_common(listed, _list)
    show = below.add_parser("show", help="one agent: row, state, keys, tables")
    add_agent(show)
    show.add_argument("--limit", type=count, default=200, help="at most so many keys")
    show.add_argument("--after", metavar="CURSOR", help="go on from a former show")
    add_common(show, _show)

    workers = commands.add_parser("workers", help="the workers that are known")
    add_common(workers, _workers)
    shards = commands.add_parser("shards", help="how many shards each worker owns")
    add_common(shards, _shards)
    return below


def _list(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.store import inspect

        async with opened_connection(site) as connection:
            owners = None
            if options.owner is not None:
                owners = await inspect.owners(connection, options.owner)
                if not owners:
                    raise CommandError(
                        f"there is no worker {options.owner}: see `durable workers`"
                    )
            wanted = inspect.AgentFilter(
                classes=await classes_of(connection, options, site, options.class_name),
                prefix=options.prefix,
                owners=owners,
            )
            after = None if options.after is None else _place(options.after)
            try:
                rows, end = await inspect.agents(
                    connection, wanted, options.limit, after
                )
            except ValueError as error:
                raise CommandError(str(error)) from error
        cursor = _cursor(None if end is None else [end.tag, end.name, end.id.hex])
        if options.json:
            print_json({"agents": [_plain(row) for row in rows], "after": cursor})
            return
        columns = ("class", "name", "id", "owner", "keys", "bytes", "sql", "created")
        print_table(columns, [_line(row) for row in rows])
        if cursor is not None:
            print(f"more: --after {cursor}")

    return run_command(work)


def _line(row: AgentRow) -> tuple[Any, ...]:
    return (
        *(row.class_name, row.name, row.id.hex, row.owner_address or row.owner),
        *(row.kv_rows, row.kv_bytes, row.sql_schema is not None, row.created_at),
    )


def _plain(row: AgentRow) -> dict[str, Any]:
    plain = dataclasses.asdict(row)
    return {"class": plain.pop("class_name"), **plain, "id": row.id.hex}


def _cursor(place: Sequence[Any] | None) -> str | None:
    if place is None:
        return None
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _place(cursor: str) -> Place:
    from durable.store.inspect import Place

    try:
        tag, name, text = json.loads(base64.urlsafe_b64decode(cursor))
        return Place(int(tag), str(name), UUID(hex=text))
    except (ValueError, TypeError, AttributeError) as error:
        raise CommandError(
            "--after is not a cursor of `durable agents list`"
        ) from error


def _key_place(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    try:
        space, key = json.loads(base64.urlsafe_b64decode(cursor))
        return str(space), str(key)
    except (ValueError, TypeError) as error:
        raise CommandError(
            "--after is not a cursor of `durable agents show`"
        ) from error


def _show(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.store import inspect

        async with opened_agent(options, site) as found:
            async with found.database.connection() as connection:
                row = found.row
                text = await inspect.state(connection, row)
                keys, end = await inspect.keys(
                    connection, row, options.limit, _key_place(options.after)
                )
                schema = row.sql_schema
                tables = await inspect.tables(connection, schema) if schema else []
        state = None if text is None else json.loads(text)
        shown = {**_plain(row), "state": state}
        if options.json:
            rest = {"keys": keys, "after": _cursor(end), "tables": tables}
            print_json({**shown, **rest})
            return
        print_fields(shown)
        _print_rows("keys", keys)
        if end is not None:
            print(f"more: --after {_cursor(end)}")
        _print_rows("tables", tables)

    return run_command(work)


def _print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        print(f"\n{title}")
        print_table(list(rows[0]), [list(row.values()) for row in rows])


def _workers(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.store import inspect

        async with opened_connection(site) as connection:
            rows = await inspect.workers(connection)
        _print(options, "workers", rows, "no worker is known")

    return run_command(work)


def _shards(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.store import inspect

        async with opened_connection(site) as connection:
            rows = await inspect.shards(connection)
        _print(options, "shards", rows, "there are no shards")

    return run_command(work)


def _print(
    options: argparse.Namespace, title: str, rows: list[dict[str, Any]], none: str
) -> None:
    if options.json:
        print_json({title: rows})
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        print(none)
