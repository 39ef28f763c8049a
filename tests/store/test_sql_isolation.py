"""What an agent's SQL can reach: its own schema. With both walls, and with one."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from durable.domain.errors import DurableError, SqlError
from durable.domain.ports import SqlTarget
from durable.store.agent_sql import AgentSql
from durable.store.sql_guard import Guarded, GuardedStatement, SqlGuard
from durable.store.sql_login import AgentSqlSettings
from tests.store.hostile import (
    HOSTILE,
    HOSTILE_BY_KIND,
    LOOK_ALIKES,
    REFUSED_WITHOUT_PARSER,
)
from tests.store.sql_targets import administrator, as_agent, new_target, one_value

SECRET = "treasure"
# Everything that isn't the attacker's own, as an administrator sees it.
WORLD = """
SELECT
    (SELECT jsonb_agg(to_jsonb(s)) FROM {b}.secrets s) AS rows,
    (SELECT last_value FROM {b}.counter) AS counter,
    (SELECT jsonb_agg(to_jsonb(k) ORDER BY k.object, k.key)
     FROM durable.kv k WHERE object <> %(attacker)s) AS kv,
    (SELECT jsonb_agg(to_jsonb(s) ORDER BY id) FROM durable.shard s) AS shards,
    (SELECT jsonb_agg(ARRAY[n.nspname, c.relname, c.relkind::text,
                            c.relowner::regrole::text, c.relacl::text]
                      ORDER BY n.nspname, c.relname)
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname <> %(own)s AND n.nspname !~ '^pg_t') AS relations,
    (SELECT jsonb_agg(ARRAY[n.nspname, p.proname] ORDER BY n.nspname, p.proname, p.oid)
     FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname NOT IN ('pg_catalog', %(own)s)) AS functions,
    (SELECT jsonb_agg(ARRAY[nspname, nspowner::regrole::text, nspacl::text]
                      ORDER BY nspname)
     FROM pg_namespace WHERE nspname !~ '^pg_t') AS schemas,
    (SELECT jsonb_agg(to_jsonb(r) - 'oid' ORDER BY rolname) FROM pg_roles r
     WHERE rolname = 'evil' OR rolname ~ %(hash)s AND rolname !~ %(hex)s) AS roles,
    (SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
     WHERE r.rolname ~ %(hash)s) AS memberships,
    (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects,
    (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d
     ON d.oid = s.setdatabase WHERE d.datname = current_database()) AS settings,
    (SELECT count(*) FROM pg_extension) AS extensions,
    (SELECT count(*) FROM pg_prepared_xacts) AS prepared,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
        AS locks,
    (SELECT sourceline FROM pg_file_settings WHERE name = 'fsync' AND sourcefile
     ~ 'auto') AS fsync
"""


class Attack:
    """An attacker's agent, its victim, and what the words of statements mean."""

    def __init__(
        self, sql: AgentSql, url: str, attacker: SqlTarget, victim: SqlTarget
    ) -> None:
        self.sql = sql
        self.attacker = attacker
        self.victim = victim
        self._url = url
        schema = victim.schema or ""
        role = sql._login.role_prefix + victim.object_id.hex
        self._words = {"{b_role}": role, "{b_tail}": schema[1:], "{b}": schema}

    def aimed(self, statement: str) -> str:
        """The statement with the victim's names."""
        for word, meaning in self._words.items():
            statement = statement.replace(word, meaning)
        return statement

    def world(self) -> tuple[Any, ...]:
        """Everything but the attacker's own."""
        names = {
            "attacker": self.attacker.object_id,
            "own": self.attacker.schema,
            "hex": self.attacker.object_id.hex,
            # Of this database's roles: agent_<hash>_<id>, durable_agent_sql_<hash>.
            "hash": self.sql._login.role_prefix.split("_")[1],
        }
        with administrator(self._url) as connection:
            row = connection.execute(self.aimed(WORLD).encode(), names).fetchone()
        return tuple(row or ())

    async def new_session(self) -> None:
        """Go on with another connection: this one may have been changed."""
        session = await self.sql._take()
        session.broken = True
        await self.sql._give_back(session)


@pytest.fixture
async def attack(database_url: str) -> AsyncIterator[Attack]:
    settings = AgentSqlSettings(
        database_url=database_url, connections=1, lease_seconds=2.0
    )
    async with AgentSql(settings) as sql:
        attacker = await _attacker(sql, database_url)
        victim = await _agent(
            sql,
            database_url,
            "CREATE TABLE secrets (secret TEXT); CREATE SEQUENCE counter; "
            f"INSERT INTO secrets VALUES ('{SECRET}'), ('{SECRET}'); "
            "CREATE VIEW v AS SELECT * FROM secrets",
        )
        with administrator(database_url) as connection:
            # So that its values are in the statistics, too.
            connection.execute(f"ANALYZE {victim.schema}.secrets".encode())
        yield Attack(sql, database_url, attacker, victim)


async def _attacker(sql: AgentSql, url: str) -> SqlTarget:
    return await _agent(sql, url, "CREATE TABLE mine (secret TEXT)")


async def _agent(sql: AgentSql, url: str, statements: str) -> SqlTarget:
    target = new_target(url)
    result = await sql.run(target, statements, [], one_value("k", f'"{SECRET}"'))
    return dataclasses.replace(target, schema=result.schema)


def test_the_corpus_has_every_kind_and_no_statement_twice() -> None:
    assert len(HOSTILE) >= 200
    assert len(set(HOSTILE)) == len(HOSTILE)
    assert all(len(texts) > 1 for texts in HOSTILE_BY_KIND.values())


async def test_hostile_statements_are_refused_and_change_nothing(
    attack: Attack,
) -> None:
    before = attack.world()
    for statement in HOSTILE:
        with pytest.raises(SqlError):
            await attack.sql.run(attack.attacker, attack.aimed(statement))
    for statement in LOOK_ALIKES:
        with pytest.raises(SqlError, match="42P01"):
            await attack.sql.run(attack.attacker, attack.aimed(statement))
    assert attack.world() == before


class NoGuard(SqlGuard):
    """The parser is switched off: every text is one statement, and passes."""

    def check(self, query: str) -> Guarded:
        return Guarded(query, (GuardedStatement(query, 0, ()),), 0, read_only=False)


async def test_without_the_parser_nothing_of_others_is_read_or_changed(
    attack: Attack, database_url: str
) -> None:
    """The whole corpus, each statement committed if Postgres lets it."""
    guard, attack.sql._guard = attack.sql._guard, NoGuard(())
    before = attack.world()
    passed = []
    for statement in HOSTILE:
        text = attack.aimed(statement)
        try:
            said = str((await attack.sql.run(attack.attacker, text)).raw())
        except DurableError as error:
            said = str(error)
        else:
            passed.append(statement)
        assert SECRET not in said, statement
        if statement in passed:  # the others were rolled back
            await attack.new_session()
            assert attack.world() == before, statement
            # It may have spoilt its own schema: the next one starts from a whole one.
            attack.sql._guard = guard
            attack.attacker = await _attacker(attack.sql, database_url)
            attack.sql._guard = NoGuard(())
            before = attack.world()
    assert attack.world() == before
    # If Postgres refused all, it would be for another reason than the roles.
    assert {"LOCK TABLE mine", "DROP OWNED BY CURRENT_USER"} <= set(passed)
    attack.sql._guard = guard
    assert await attack.sql.run(
        attack.victim,
        "SELECT DISTINCT secret, nextval('counter') > 0 AS n FROM secrets",
    ) == [{"secret": SECRET, "n": True}]


async def test_the_roles_alone_refuse_what_would_read_or_reach_others(
    attack: Attack, database_url: str
) -> None:
    leaks = []
    for statement in REFUSED_WITHOUT_PARSER:
        text = attack.aimed(statement).encode()
        login = attack.sql._login.conninfo
        with as_agent(database_url, login, attack.attacker) as connection:
            try:
                rows = connection.execute(text).fetchall()
            except psycopg.Error:
                continue
            if "pg_terminate" not in statement or any(row[0] for row in rows):
                leaks.append((statement, rows))
    assert leaks == []


async def test_the_login_itself_can_read_nothing(
    attack: Attack, database_url: str
) -> None:
    for query in (
        "SELECT * FROM durable.kv",
        "SELECT claim_id FROM durable.shard",
        f"SELECT * FROM {attack.victim.schema}.secrets",
        "SELECT durable.claim(ARRAY[1], gen_random_uuid())",
        "SELECT durable.install_agent_sql(NULL)",
        "CREATE ROLE evil",
        "CREATE SCHEMA evil",
    ):
        with psycopg.connect(attack.sql._login.conninfo) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query.encode())
