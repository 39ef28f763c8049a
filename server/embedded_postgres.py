"""A Postgres that comes with the project: started by the first node, for all of them.

``async with embedded_postgres(Path(".durable")) as dsn`` starts Postgres, or joins the
one that another node has started on this directory; the last to leave stops it. It
listens on 127.0.0.1 at a free port, with a random password (SCRAM): shard lanes need
TCP, and other users of the machine shall not get in.

Three file locks beside the data carry the sharing. The kernel drops them with their
process, so a killed node leaves nothing behind that would have to be repaired:

* ``starting``: held exclusively while a node starts or joins;
* ``in-use``: held shared by every node, exclusively by the keeper when it stops;
* ``keeping``: held exclusively by the keeper (``postgres_keeper.py``) while it lives.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg

from server import postgres_keeper
from server.postgres_files import EmbeddedPostgresError, Files, open_files

__all__ = ["EmbeddedPostgresError", "data_location", "embedded_postgres"]

_DATABASE: Final = "durable"
_SUPERUSER: Final = "postgres"
_MAX_CONNECTIONS: Final = 300  # nodes of one machine, with room for tests and tools
_LOG_LIMIT: Final = 10 * 1024 * 1024
_WAIT_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.01
_LOG_TAIL: Final = 12


def data_location(data_dir: Path) -> Path:
    """Where the data really are: ``data_dir/postgres``, or what it links to."""
    return (data_dir.absolute() / "postgres").resolve()


@asynccontextmanager
async def embedded_postgres(data_dir: Path) -> AsyncIterator[str]:
    """Runs Postgres on ``data_dir`` while inside; yields its URL.

    Raises:
        EmbeddedPostgresError: it can't run here, or didn't start; the text says why.
    """
    files = await asyncio.to_thread(open_files, data_dir)
    with _opened(files.root / "in-use") as in_use:
        with _opened(files.root / "starting") as starting:
            await _lock(starting, fcntl.LOCK_EX)
            await _lock(in_use, fcntl.LOCK_SH)
            await asyncio.to_thread(_prepare, files)
            with _opened(files.root / "keeping") as keeping:
                kept = not _try_lock(keeping, fcntl.LOCK_EX)
            if not kept:
                await asyncio.to_thread(_start_keeper, files)
            dsn = _dsn(files)
            await _create_database(dsn, files)
        try:
            yield f"{dsn}/{_DATABASE}"
        finally:
            _unlock(in_use)
            await _wait_stopped(files)


@contextmanager
def in_use(data_dir: Path) -> Iterator[None]:
    """Keeps the Postgres that another process of ours runs, also when that is gone."""
    with _opened(open_files(data_dir).root / "in-use") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


# --- locks -----------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # drops the lock with it


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)


async def _lock(descriptor: int, how: int) -> None:
    """Waits for a lock. It polls: a thread inside ``flock`` can't be cancelled."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WAIT_SECONDS
    while not _try_lock(descriptor, how):
        if loop.time() > deadline:
            raise EmbeddedPostgresError(
                f"another process has been starting or stopping the embedded Postgres "
                f"for {_WAIT_SECONDS:.0f} s; is it suspended?"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _wait_stopped(files: Files) -> None:
    """If we were the last, waits until the keeper has stopped Postgres.

    Not for correctness: whoever starts next waits for the same locks. But a container
    is often killed as soon as its main process has ended.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _STOP_SECONDS
    with (
        _opened(files.root / "in-use") as in_use,
        _opened(files.root / "keeping") as keeping,
    ):
        while loop.time() < deadline and not _try_lock(keeping, fcntl.LOCK_EX):
            alone = _try_lock(in_use, fcntl.LOCK_EX)
            if not alone and _try_lock(in_use, fcntl.LOCK_SH):
                return  # other nodes still use it
            _unlock(in_use)
            await asyncio.sleep(_POLL_SECONDS)


# --- starting --------------------------------------------------------------------


def _prepare(files: Files) -> None:
    """Makes the data directory, if there is none, and checks its version."""
    if not files.data.exists():
        _initialise(files)
    if not files.password.is_file():
        raise EmbeddedPostgresError(
            f"{files.password} is gone, and with it the way into the database; put it "
            f"back, or remove {files.root} to start empty"
        )
    version = (files.data / "PG_VERSION").read_text().strip()
    ours = _version(files)
    if version != ours:
        raise EmbeddedPostgresError(
            f"the data in {files.data} are of Postgres {version}, the embedded one is "
            f"{ours}; dump and load them (pg_dump), or remove {files.root} to start "
            f"empty"
        )
    if files.log.exists() and files.log.stat().st_size > _LOG_LIMIT:
        os.truncate(files.log, 0)


def _version(files: Files) -> str:
    said = _run(files, [str(files.binaries / "postgres"), "--version"])
    return said.split()[-1].split(".")[0]


def _initialise(files: Files) -> None:
    """``initdb`` into a scratch directory; the rename makes it whole or absent."""
    scratch = files.root / "data.new"
    shutil.rmtree(scratch, ignore_errors=True)
    password = secrets.token_urlsafe(24)
    _write_private(files.password, password)
    scratch.mkdir(mode=0o700)
    once = files.root / "password.new"  # as the user of Postgres may read it
    _write_private(once, password)
    if files.account is not None:
        for path in (scratch, once):
            os.chown(path, files.account.uid, files.account.gid)
    try:
        _run(
            files,
            [
                str(files.binaries / "initdb"),
                f"--pgdata={scratch}",
                f"--username={_SUPERUSER}",
                f"--pwfile={once}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
            ],
        )
    finally:
        once.unlink()
    scratch.rename(files.data)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _environment(files: Files) -> dict[str, str]:
    """Nothing of ours: PGDATA, PGPORT and the like would change what is run."""
    return {"PATH": f"{files.binaries}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _run(files: Files, command: list[str]) -> str:
    """Runs one of the binaries, as the user of Postgres, and returns what it said."""
    account = files.account
    try:
        done = subprocess.run(
            command,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            env=_environment(files),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip()
        raise EmbeddedPostgresError(f"{Path(command[0]).name} failed: {said}") from None
    except OSError as error:
        raise EmbeddedPostgresError(f"{command[0]} can't be run: {error}") from error
    return done.stdout


def _start_keeper(files: Files) -> None:
    """Starts the keeper in a session of its own and waits until Postgres is ready."""
    account = files.account
    orders = {
        "command": _postgres_command(files),
        "environment": _environment(files),
        "account": [account.uid, account.gid] if account else None,
        "data": str(files.data),
        "log": str(files.log),
        "keeping": str(files.root / "keeping"),
        "in_use": str(files.root / "in-use"),
    }
    files.log.touch(mode=0o600)
    with files.log.open("a") as log:
        done = subprocess.run(
            [sys.executable, "-I", "-S", postgres_keeper.__file__],
            input=json.dumps(orders) + "\n",
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd="/",
            start_new_session=True,
            check=False,
        )
    if done.stdout.strip() != "ready":
        tail = "\n".join(files.log.read_text().splitlines()[-_LOG_TAIL:])
        raise EmbeddedPostgresError(
            f"the embedded Postgres didn't start; the end of {files.log}:\n{tail}"
        )


def _postgres_command(files: Files) -> list[str]:
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",  # a deep project exceeds their length limit
        "max_connections": str(_MAX_CONNECTIONS),
        "fsync": "on",
        "log_min_messages": "log",  # not the errors of users' own statements
        "log_checkpoints": "off",
        "log_timezone": "UTC",
    }
    command = [str(files.binaries / "postgres"), "-D", str(files.data)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    return command


def _dsn(files: Files) -> str:
    password = quote(files.password.read_text().strip(), safe="")
    port = postgres_keeper.port(files.data)
    return f"postgresql://{_SUPERUSER}:{password}@127.0.0.1:{port}"


async def _create_database(dsn: str, files: Files) -> None:
    """Makes our database, if missing; also proves that we can get in."""
    try:
        connection = await asyncpg.connect(f"{dsn}/postgres", timeout=30)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise EmbeddedPostgresError(
            f"the embedded Postgres runs, but can't be reached: {error}; its log is "
            f"{files.log}"
        ) from error
    try:
        await connection.execute(f"CREATE DATABASE {_DATABASE}")
    except asyncpg.DuplicateDatabaseError:
        pass  # every start but the first
    finally:
        await connection.close()
