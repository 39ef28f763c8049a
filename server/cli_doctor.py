"""``durable doctor``: what is wrong with a database or these settings, and what to do.

Each check looks at the facts and says at most a few sentences. An error is what loses
data, or keeps nodes from working; a warning is what will.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from server import logs
from server.cli_database import opened_site, print_json
from server.config import load_project
from server.setting_kinds import is_loopback
from server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from durable.store.doctor import Facts

OLDEST_POSTGRES: Final = 15
NEWEST_POSTGRES: Final = 18
MANY_SCHEMAS: Final = 5_000
# One lane, one for class names and migrations, one for an operator.
_OTHER_CONNECTIONS: Final = 3
# A hundred million transactions later Postgres vacuums by itself and by force.
_OLD_IDS: Final = 400_000_000
_SPENT_IDS: Final = 1_500_000_000
_LONG_TRANSACTION: Final = 300.0
_CLOCK_WARNING: Final = 1.0
_CLOCK_ERROR: Final = 30.0
_SLOW_ROUND_TRIP: Final = 0.02
_RANDOM_CHARACTERS: Final = 8

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``do`` says what to do about it; nothing where it is well."""

    check: str
    level: Level
    text: str
    do: str = ""


Check = Callable[["Facts", Settings], Iterator[Finding]]


def add_commands(commands: Any) -> None:
    """Adds the command to the parser's."""
    doctor = commands.add_parser(
        "doctor", help="examine the database and the settings; exit code 1 on errors"
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    settings = Settings.from_environment(os.environ, project=load_project(Path.cwd()))
    logs.configure("error", structured=False)
    findings = asyncio.run(diagnose(settings))
    failed = any(finding.level == "error" for finding in findings)
    if options.json:
        shown = [dataclasses.asdict(finding) for finding in findings]
        print_json({"ok": not failed, "findings": shown})
    else:
        _print(findings)
    return 1 if failed else 0


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        mark = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}
        print(f"{mark[finding.level]}  {finding.check}: {logs.redact(finding.text)}")
        if finding.do:
            print(f"         → {finding.do}")
    bad = [finding.level for finding in findings]
    print(
        f"{bad.count('error')} errors, {bad.count('warning')} warnings", file=sys.stderr
    )


async def diagnose(settings: Settings) -> list[Finding]:
    """All findings about the database that the settings name."""
    from durable.domain.errors import Unavailable
    from durable.store.doctor import examine
    from server.migrate import SchemaError, check_schema

    findings: list[Finding] = []
    async with opened_site(settings) as dsn:
        try:
            facts = await examine(dsn, settings.lease_seconds)
        except Unavailable as error:
            do = "check DURABLE_DATABASE_URL, the network, and that Postgres runs"
            return [Finding("connection", "error", str(error), do)]
        for check in CHECKS:
            findings += check(facts, settings)
        try:
            shards = await check_schema(dsn, settings.shards)
            text = f"the schema is this version's, with {shards} shards"
            findings.append(Finding("schema", "ok", text))
        except SchemaError as error:
            do = "run what the text names; until then nodes refuse this database"
            findings.append(Finding("schema", "error", str(error), do))
    return findings


# --- checks ----------------------------------------------------------------------


def _version(facts: Facts, _: Settings) -> Iterator[Finding]:
    text = f"Postgres {facts.version}, round trip {facts.round_trip * 1000:.1f} ms"
    if facts.version < OLDEST_POSTGRES:
        do = f"upgrade to {OLDEST_POSTGRES} or newer"
        yield Finding("version", "error", text, do)
    elif facts.version > NEWEST_POSTGRES:
        do = f"tests run with {OLDEST_POSTGRES} to {NEWEST_POSTGRES}: try it first"
        yield Finding("version", "warning", text, do)
    elif facts.round_trip > _SLOW_ROUND_TRIP:
        do = "each commit takes a round trip: run nodes next to the database"
        yield Finding("version", "warning", text, do)
    else:
        yield Finding("version", "ok", text)
    if facts.in_recovery:
        do = "let DURABLE_DATABASE_URL name the primary"
        yield Finding("primary", "error", "this is a standby: it takes no writes", do)
    if "idle_session_timeout" not in facts.settings:
        text = "this server has no idle_session_timeout, which enforces the lease"
        do = "use Postgres itself, 15 or newer"
        yield Finding("lease", "error", text, do)


def _durability(facts: Facts, _: Settings) -> Iterator[Finding]:
    bad = [name for name in ("fsync", "full_page_writes") if _off(facts, name)]
    for name in bad:
        text = f"{name} is off: a crash of the machine loses or corrupts what was "
        do = f"ALTER SYSTEM SET {name} = on; then reload, and check the data"
        yield Finding("durability", "error", f"{text}acknowledged", do)
    if facts.synchronous_commit in ("off", "local"):
        text = (
            f"synchronous_commit is {facts.synchronous_commit} by default. Nodes set "
            "it to on themselves; others' writes may be lost"
        )
        do = "set it to on, unless another application wants it so"
        yield Finding("durability", "warning", text, do)
    elif not bad:
        text = "fsync, full_page_writes and synchronous_commit are on"
        yield Finding("durability", "ok", text)
    if _off(facts, "autovacuum"):
        text = "autovacuum is off: tables grow, and transaction ids run out"
        do = "ALTER SYSTEM SET autovacuum = on; then reload"
        yield Finding("autovacuum", "error", text, do)


def _off(facts: Facts, name: str) -> bool:
    return facts.settings.get(name) == "off"


def _pooler(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.pooler is not None:
        text = f"something stands between nodes and Postgres: {facts.pooler}"
        do = (
            "connect straight to the primary: the locks that make one owner are "
            "bound to a session, which a pooler (PgBouncer and the like) gives away"
        )
        yield Finding("pooler", "error", text, do)
    else:
        yield Finding("pooler", "ok", "sessions are our own: no pooler in between")


def _transport(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.unix_socket:
        text = "the connection is a Unix socket, where tcp_user_timeout does nothing"
        do = "use a URL with a host (127.0.0.1), so that a hung peer is noticed"
        yield Finding("transport", "warning", text, do)
    else:
        yield Finding("transport", "ok", "the connection is TCP")


def _connections(facts: Facts, settings: Settings) -> Iterator[Finding]:
    wanted = settings.read_connections + settings.sql_connections + _OTHER_CONNECTIONS
    most = facts.number("max_connections")
    reserved = facts.number("superuser_reserved_connections")
    reserved += facts.number("reserved_connections")
    free = most - reserved - facts.connections
    text = (
        f"a node takes up to {wanted} connections; {free} of {most} are free "
        f"({facts.connections} in use, {reserved} reserved)"
    )
    do = (
        "raise max_connections (a restart), or lower DURABLE_SQL_CONNECTIONS and "
        "DURABLE_READ_CONNECTIONS"
    )
    if free < wanted:
        yield Finding("connections", "error", text, do)
    elif free < 2 * wanted:
        yield Finding("connections", "warning", f"{text}: room for one node", do)
    else:
        yield Finding("connections", "ok", text)


def _locks(facts: Facts, settings: Settings) -> Iterator[Finding]:
    sessions = facts.number("max_connections")
    sessions += facts.number("max_prepared_transactions")
    room = facts.number("max_locks_per_transaction") * sessions
    # One worker may own all shards: a session lock each, in the claim a fence lock too.
    wanted = 2 * settings.shards
    text = f"{wanted} locks for {settings.shards} shards, of room for {room}"
    do = "raise max_locks_per_transaction (a restart)"
    if room < wanted:
        yield Finding("locks", "error", text, do)
    elif room < 2 * wanted:
        yield Finding("locks", "warning", text, do)
    else:
        yield Finding("locks", "ok", text)


def _clock(facts: Facts, _: Settings) -> Iterator[Finding]:
    off = abs(facts.clock_ahead)
    side = "ahead of" if facts.clock_ahead > 0 else "behind"
    text = f"this machine's clock is {off:.3f} s {side} the database's"
    do = "run an NTP client on both machines: set_alarm counts by this one's clock"
    if facts.clock_stopped:
        yield Finding(
            "clock",
            "error",
            "the clock of alarms stands still: durable.testing was used here",
            "no alarm fires: UPDATE durable.cluster SET test_time = NULL",
        )
    elif off > _CLOCK_ERROR:
        yield Finding("clock", "error", text, do)
    elif off > _CLOCK_WARNING:
        yield Finding("clock", "warning", text, do)
    else:
        yield Finding("clock", "ok", text)


def _schemas(facts: Facts, _: Settings) -> Iterator[Finding]:
    text = f"{facts.agent_schemas:,} agents have SQL tables of their own"
    if facts.agent_schemas > MANY_SCHEMAS:
        do = (
            f"more than {MANY_SCHEMAS:,} schemas make pg_dump, crash recovery and "
            "autovacuum slow: keep small things in state or storage instead of SQL, "
            "delete agents that are done (`durable agents delete`), raise "
            "max_locks_per_transaction before a pg_dump, or use a second database"
        )
        yield Finding("schemas", "warning", text, do)
    else:
        yield Finding("schemas", "ok", text)


def _wraparound(facts: Facts, _: Settings) -> Iterator[Finding]:
    age = max(facts.transaction_age, facts.multixact_age)
    text = f"the oldest unfrozen transaction is {age:,} ids back"
    do = "run VACUUM (FREEZE) as a superuser; end the old transactions that hold it up"
    if age > _SPENT_IDS:
        text += "; at 2.1 billion Postgres stops taking writes"
        yield Finding("wraparound", "error", text, do)
    elif age > _OLD_IDS:
        yield Finding("wraparound", "warning", text, do)
    else:
        yield Finding("wraparound", "ok", text)


def _transactions(facts: Facts, _: Settings) -> Iterator[Finding]:
    old = facts.oldest
    if old is not None and old.seconds > _LONG_TRANSACTION:
        text = (
            f"a transaction is open for {old.seconds:.0f} s (backend {old.pid}, "
            f"{old.application or 'without a name'}, {old.state})"
        )
        do = f"end it, SELECT pg_terminate_backend({old.pid}): it keeps dead rows"
        yield Finding("transactions", "warning", text, do)
    else:
        yield Finding("transactions", "ok", "no transaction is open for long")
    if facts.prepared_transactions:
        text = f"{facts.prepared_transactions} prepared transactions wait for their end"
        do = "COMMIT PREPARED or ROLLBACK PREPARED them: see pg_prepared_xacts"
        yield Finding("transactions", "warning", text, do)


def _notifications(facts: Facts, _: Settings) -> Iterator[Finding]:
    text = f"the queue of NOTIFY is {facts.notifications:.0%} full"
    do = "a session that LISTENs sits in a long transaction: find it and end it"
    if facts.notifications > 0.5:
        yield Finding("notifications", "error", f"{text}; when full, commits fail", do)
    elif facts.notifications > 0.1:
        yield Finding("notifications", "warning", text, do)
    else:
        yield Finding("notifications", "ok", text)


def _agent_sql(facts: Facts, settings: Settings) -> Iterator[Finding]:
    if not facts.may_make_roles and settings.sql_url is None:
        text = "the database role may not make roles: agents can't use SQL"
        do = "give it CREATEROLE, or set DURABLE_SQL_URL (docs/sql.md)"
        yield Finding("agent sql", "warning", text, do)
    elif not facts.hardened:
        text = "set_config and others are open to PUBLIC: the parser alone stops them"
        do = "run `durable migrate` as a superuser, or revoke them: docs/sql.md"
        yield Finding("agent sql", "warning", text, do)
    else:
        text = "each agent gets a role; what leads out of it is closed to PUBLIC"
        yield Finding("agent sql", "ok", text)


def _workers(facts: Facts, _: Settings) -> Iterator[Finding]:
    found = ", ".join(
        f"{version} ({count})"
        for version, count in sorted(facts.worker_versions.items())
    )
    if len(facts.worker_versions) > 1:
        do = "fine while you deploy; else restart those that are behind"
        yield Finding("workers", "warning", f"live workers of versions {found}", do)
    else:
        yield Finding("workers", "ok", f"live workers: {found or 'none'}")


def _link(_: Facts, settings: Settings) -> Iterator[Finding]:
    from server.link.tls import contexts_of

    secret = settings.link_secret
    if secret is not None and len(set(secret)) < _RANDOM_CHARACTERS:
        text = "the secret that nodes know each other by has few different characters"
        do = "DURABLE_LINK_SECRET: take `openssl rand -hex 32`, the same on all nodes"
        yield Finding("link", "warning", text, do)
    try:
        encrypted = contexts_of(settings) is not None
    except SettingsError as error:
        do = "mend the file, or set none of the three DURABLE_LINK_TLS_… variables"
        yield Finding("link", "error", str(error), do)
        return
    whose = "the database's" if secret is None else "your"
    text = f"nodes know each other by {whose} secret"
    if encrypted:
        text += " and by certificates"
    elif not is_loopback(settings.link_host):
        text += "; what they say isn't encrypted: keep it inside your network, or set "
        text += "DURABLE_LINK_TLS_CERT, _KEY and _CA"
    yield Finding("link", "ok", text)


CHECKS: Final[tuple[Check, ...]] = (
    *(_version, _durability, _pooler, _transport, _connections, _locks, _clock),
    *(
        _workers,
        _link,
        _schemas,
        _agent_sql,
        _wraparound,
        _transactions,
        _notifications,
    ),
)
