"""``durable doctor`` on a real Postgres, sound and otherwise."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from durable.store.doctor import Facts, OldTransaction, examine
from server import cli_doctor
from server.cli_doctor import CHECKS, Finding, diagnose
from server.settings import Settings
from tests.server.test_cli import durable


@pytest.fixture
async def facts(database_url: str) -> Facts:
    return await examine(database_url, 10.0)


def settings(url: str, **given: Any) -> Settings:
    return Settings(database_url=url, **given)


def worst(findings: list[Finding]) -> dict[str, str]:
    """What isn't well: check → level."""
    return {f.check: f.level for f in findings if f.level != "ok"}


def judged(facts: Facts, given: Settings | None = None) -> list[Finding]:
    return [f for check in CHECKS for f in check(facts, given or Settings())]


def test_a_sound_database_has_no_errors_and_the_exit_code_0(
    project_dir: Path, database_url: str
) -> None:
    done = durable("doctor", cwd=project_dir, DURABLE_DATABASE_URL=database_url)
    assert done.returncode == 0, done.stdout
    assert "ERROR" not in done.stdout
    assert "no pooler in between" in done.stdout
    shown = durable(
        "doctor", "--json", cwd=project_dir, DURABLE_DATABASE_URL=database_url
    )
    found = json.loads(shown.stdout)
    assert found["ok"] is True
    checks = {finding["check"] for finding in found["findings"]}
    assert checks >= {"version", "durability", "pooler", "locks", "clock", "schema"}


def test_an_error_is_the_exit_code_1_and_says_what_to_do(
    project_dir: Path, empty_database_url: str
) -> None:
    done = durable("doctor", cwd=project_dir, DURABLE_DATABASE_URL=empty_database_url)
    assert done.returncode == 1
    assert "ERROR    schema: this database has no schema" in done.stdout
    assert "run `durable migrate`" in done.stdout
    nowhere = "postgresql://somebody:secret@127.0.0.1:1/nowhere"
    done = durable("doctor", "--json", cwd=project_dir, DURABLE_DATABASE_URL=nowhere)
    assert done.returncode == 1
    [finding] = json.loads(done.stdout)["findings"]
    assert (finding["check"], finding["level"]) == ("connection", "error")
    assert "DURABLE_DATABASE_URL" in finding["do"]
    assert "secret" not in done.stdout + done.stderr


async def test_another_number_of_shards_is_an_error(database_url: str) -> None:
    found = await diagnose(settings(database_url, shards=7))
    assert worst(found) == {"schema": "error"}


async def test_more_than_5000_agents_with_tables_are_warned_of_with_the_way_out(
    database_url: str,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "DO $$ BEGIN FOR i IN 0 .. 5000 LOOP EXECUTE format("
            "'CREATE SCHEMA agent_%s', lpad(i::text, 32, '0')); END LOOP; END $$"
        )
    found = await diagnose(settings(database_url))
    assert worst(found) == {"schemas": "warning"}
    [finding] = [f for f in found if f.check == "schemas"]
    assert finding.text.startswith("5,001 agents")
    assert "second database" in finding.do


async def test_settings_of_a_database_are_seen_though_our_sessions_override_them(
    database_url: str,
) -> None:
    name = database_url.rpartition("/")[2]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert worst(await diagnose(settings(database_url))) == {"durability": "warning"}


async def test_the_oldest_transaction_is_named_with_its_backend(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_doctor, "_LONG_TRANSACTION", 0.0)
    with psycopg.connect(database_url, application_name="a report") as connection:
        pid = connection.info.backend_pid
        connection.execute("SELECT 1")
        found = await diagnose(settings(database_url))
    [finding] = [f for f in found if f.check == "transactions"]
    assert f"backend {pid}, a report, idle in transaction" in finding.text
    assert f"pg_terminate_backend({pid})" in finding.do


async def test_the_clock_is_compared_with_the_databases(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 90)
    facts = await examine(database_url, 10.0)
    assert facts.clock_ahead == pytest.approx(-90, abs=1)
    assert worst(judged(facts)) == {"clock": "error"}


async def test_a_clock_that_a_test_kit_left_stopped_is_an_error(
    database_url: str,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE durable.cluster SET test_time = now()")
        found = await diagnose(settings(database_url))
        assert worst(found) == {"clock": "error"}
        [finding] = [f for f in found if f.check == "clock"]
        connection.execute(finding.do.partition(": ")[2].encode())
    assert worst(await diagnose(settings(database_url))) == {}


BAD: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"version": 14}, {"version": "error"}),
    ({"version": 19}, {"version": "warning"}),
    ({"round_trip": 0.05}, {"version": "warning"}),
    ({"in_recovery": True}, {"primary": "error"}),
    ({"pooler": "it is PgBouncer"}, {"pooler": "error"}),
    ({"unix_socket": True}, {"transport": "warning"}),
    ({"clock_ahead": 2.0}, {"clock": "warning"}),
    ({"agent_schemas": 5_001}, {"schemas": "warning"}),
    ({"transaction_age": 500_000_000}, {"wraparound": "warning"}),
    ({"multixact_age": 1_600_000_000}, {"wraparound": "error"}),
    ({"notifications": 0.2}, {"notifications": "warning"}),
    ({"notifications": 0.6}, {"notifications": "error"}),
    ({"prepared_transactions": 1}, {"transactions": "warning"}),
    ({"oldest": OldTransaction(1, "", "active", 301.0)}, {"transactions": "warning"}),
    ({"worker_versions": {"1": 2, "2": 1}}, {"workers": "warning"}),
    ({"may_make_roles": False}, {"agent sql": "warning"}),
    ({"hardened": False}, {"agent sql": "warning"}),
    ({"fsync": "off"}, {"durability": "error"}),
    ({"full_page_writes": "off"}, {"durability": "error"}),
    ({"autovacuum": "off"}, {"autovacuum": "error"}),
    ({"max_locks_per_transaction": "10", "max_connections": "150"}, {"locks": "error"}),
    ({"max_locks_per_transaction": "20", "max_connections": "150"},
     {"locks": "warning"}),
    ({"max_connections": "20", "max_locks_per_transaction": "1000"},
     {"connections": "error"}),
    ({"max_connections": "35", "max_locks_per_transaction": "1000"},
     {"connections": "warning"}),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "found"), BAD)
def test_each_ill_has_its_level_and_a_remedy(
    facts: Facts, changed: dict[str, Any], found: dict[str, str]
) -> None:
    sound = dataclasses.replace(
        facts,
        connections=5,
        settings={
            **facts.settings,
            "max_connections": "300",
            "superuser_reserved_connections": "3",
            "reserved_connections": "0",
        },
        transaction_age=5,
        oldest=None,
        worker_versions={},
    )
    assert worst(judged(sound)) == {}
    own = {k: v for k, v in changed.items() if hasattr(facts, k)}
    others = {k: v for k, v in changed.items() if k not in own}
    ill = dataclasses.replace(sound, **own)
    ill = dataclasses.replace(ill, settings={**ill.settings, **others})
    findings = judged(ill)
    assert worst(findings) == found
    assert all(finding.do for finding in findings if finding.level != "ok")


def test_a_server_without_the_lease_timer_is_an_error(facts: Facts) -> None:
    kept = {k: v for k, v in facts.settings.items() if k != "idle_session_timeout"}
    ill = dataclasses.replace(facts, settings=kept, oldest=None)
    assert worst(judged(ill)) == {"lease": "error"}


# --- a real pooler, where there is one -------------------------------------------

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")


@contextmanager
def pgbouncer(database_url: str, ignored: str) -> Iterator[str]:
    """PgBouncer in front of the database, on a Unix socket of its own."""
    assert PGBOUNCER is not None
    info = psycopg.conninfo.conninfo_to_dict(database_url)
    where = Path(tempfile.mkdtemp())
    where.chmod(0o777)
    given = " ".join(
        f"{key}={info[key]}"
        for key in ("host", "port", "dbname", "user", "password")
        if info.get(key)
    )
    config = where / "pgbouncer.ini"
    config.write_text(
        f"[databases]\ntest = {given} pool_size=2\n[pgbouncer]\nlisten_addr =\n"
        f"unix_socket_dir = {where}\nlisten_port = 6432\nauth_type = any\n"
        f"pool_mode = transaction\nignore_startup_parameters = {ignored}\n"
        f"server_round_robin = 0\n"
    )
    command = [PGBOUNCER, str(config)]
    if os.getuid() == 0:
        command[1:1] = ["-u", "nobody"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"process up" in line:
                break
        try:
            yield f"postgresql:///test?host={where}&port=6432&user=x"
        finally:
            process.terminate()
            process.communicate()
            shutil.rmtree(where)


IGNORED = (
    "statement_timeout,idle_in_transaction_session_timeout,"
    "client_connection_check_interval,tcp_user_timeout,tcp_keepalives_idle,"
    "tcp_keepalives_interval,tcp_keepalives_count,synchronous_commit,jit,"
    "extra_float_digits"
)


@pytest.mark.skipif(PGBOUNCER is None, reason="there is no pgbouncer here")
@pytest.mark.parametrize(
    ("ignored", "said"),
    [(IGNORED, "different backends"), ("extra_float_digits", "startup parameter")],
)
async def test_a_pooler_by_transaction_is_found(
    database_url: str, ignored: str, said: str
) -> None:
    with pgbouncer(database_url, ignored) as url:
        facts = await examine(url, 10.0)
        assert said in (facts.pooler or "")
        assert worst(judged(facts))["pooler"] == "error"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "by the database's secret"),
        ({"link_secret": "ab12cd34" * 5}, "by your secret"),
        ({"link_host": "0.0.0.0", "link_secret": "ab12cd34" * 5}, "isn't encrypted"),
    ],
)
def test_the_links_secret_and_encryption_are_told(
    facts: Facts, given: dict[str, Any], said: str
) -> None:
    (found,) = [f for f in judged(facts, Settings(**given)) if f.check == "link"]
    assert (found.level, said in found.text) == ("ok", True)


def test_a_poor_secret_is_a_warning_and_a_bad_certificate_an_error(
    facts: Facts, tmp_path: Path
) -> None:
    poor = judged(facts, Settings(link_secret="s" * 32))
    assert ("link", "warning") in [(f.check, f.level) for f in poor]
    assert "openssl rand" in "".join(f.do for f in poor if f.check == "link")
    missing = tmp_path / "node.pem"
    given = Settings(link_tls_cert=missing, link_tls_key=missing, link_tls_ca=missing)
    bad = judged(facts, given)
    assert worst(bad)["link"] == "error"
    assert any(str(missing) in f.text for f in bad)
