"""``durable sql``, ``durable state`` and ``durable agents delete``: into one agent.

Reading needs nobody's leave. Writing takes the agent's shard as a worker would, and is
refused while a live worker has it (``durable/store/operator_claim.py``).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from server.cli_agent import (
    Found,
    add_agent,
    add_common,
    claimed_agent,
    count,
    opened_agent,
    sql_settings,
)
from server.cli_database import (
    CommandError,
    Site,
    confirm,
    print_json,
    print_table,
    run_command,
)


def add_commands(commands: Any, agents: Any) -> None:
    """Adds the commands to the parser's, and ``delete`` below ``agents``."""
    delete = agents.add_parser("delete", help="delete one agent with all its data")
    add_agent(delete, writes=True)
    add_common(delete, _delete)

    sql = commands.add_parser("sql", help="run SQL in an agent's schema, read-only")
    add_agent(sql, writes=True)
    sql.add_argument("query", metavar="SQL")
    sql.add_argument("--limit", type=count, default=1000, help="rows, at most")
    sql.add_argument("--write", action="store_true", help="let it write: asks first")
    add_common(sql, _sql)

    state = commands.add_parser("state", help="an agent's state, as JSON")
    below = state.add_subparsers(required=True, metavar="COMMAND")
    get = below.add_parser("get", help="print it")
    add_agent(get)
    add_common(get, _state_get)
    put = below.add_parser("set", help="replace it")
    add_agent(put, writes=True)
    put.add_argument("state", metavar="JSON")
    add_common(put, _state_set)


def _delete(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.domain.writes import WriteSet
        from durable.store.agent_sql import AgentSql

        async with opened_agent(options, site) as found:
            row = found.row
            confirm(
                f"{options.agent} with {row.kv_rows} keys and "
                f"{'its' if row.sql_schema else 'no'} SQL tables: delete it for good?",
                yes=options.yes,
            )
            writes = WriteSet()
            writes.delete_all()
            async with claimed_agent(found) as claimed:
                if row.sql_schema is None:
                    claim = claimed.target.claim
                    await claimed.database.commit(row.id, claim, writes)
                else:
                    async with AgentSql(sql_settings(site)) as sql:
                        await sql.drop_schema(claimed.target, writes)
        _say(options, f"{options.agent} is deleted", {"deleted": options.agent})

    return run_command(work)


def _say(options: argparse.Namespace, text: str, value: dict[str, Any]) -> None:
    if options.json:
        print_json(value)
    else:
        print(text)


def _sql(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.store import inspect

        async with opened_agent(options, site) as found:
            if options.write:
                await _write_sql(options, found)
                return
            if found.row.sql_schema is None:
                raise CommandError(f"{options.agent} never used SQL: it has no tables")
            read = await inspect.read_sql(
                sql_settings(site), found.row, options.query, options.limit
            )
        if options.json:
            rows = [dict(zip(read.columns, row, strict=True)) for row in read.rows]
            print_json({"rows": rows, "more": read.more})
            return
        if read.rows:
            print_table(read.columns, read.rows)
        else:
            print("no rows")
        if read.more:
            print(f"there are more than {options.limit} rows: --limit")

    return run_command(work)


async def _write_sql(options: argparse.Namespace, found: Found) -> None:
    from durable.store.agent_sql import AgentSql

    confirm(f"Run this in {options.agent}, and commit it?", yes=options.yes)
    async with (
        AgentSql(sql_settings(found.site)) as sql,
        claimed_agent(found) as claimed,
    ):
        result = await sql.run(claimed.target, options.query)
    if options.json:
        print_json({"rows": result.rows, "rows_written": result.rows_written})
        return
    if result.rows:
        print_table(result.column_names, result.raw())
    print(f"committed, {result.rows_written} rows written")


def _state_get(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.store import inspect

        async with opened_agent(options, site) as found:
            async with found.database.connection() as connection:
                text = await inspect.state(connection, found.row)
        if text is None:
            raise CommandError(f"{options.agent} has no state")
        print(text)

    return run_command(work)


def _state_set(options: argparse.Namespace) -> int:
    text = _state_text(options.state)

    async def work(site: Site) -> None:
        from durable.domain.writes import WriteSet

        async with opened_agent(options, site) as found:
            confirm(
                f"Replace the state of {options.agent}? Its validate_state_change is "
                "not asked.",
                yes=options.yes,
            )
            writes = WriteSet()
            writes.put(("agent", "state"), text)
            async with claimed_agent(found) as claimed:
                claim = claimed.target.claim
                await claimed.database.commit(found.row.id, claim, writes)
        done = {"state": json.loads(text)}
        _say(options, f"the state of {options.agent} is set", done)

    return run_command(work)


def _state_text(given: str) -> str:
    """The state as an agent itself would store it."""
    from durable.domain.errors import ValueRefused
    from durable.objects.json_text import dumps_strict, loads

    try:
        return dumps_strict(loads(given), "state").decode()
    except (ValueError, ValueRefused) as error:
        raise CommandError(f"the state must be JSON: {error}") from error
