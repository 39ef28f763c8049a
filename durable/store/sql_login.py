"""Who agent SQL logs in as, and with which session settings.

The login is made from the main connection (it may create roles); its password is an
HMAC of the main password and the login's name, so every node derives the same one and
nobody has to store or distribute it. It gives nothing to whoever learns it but the
rights of that login, and the main password can't be computed from it. Where the main
URL has no password (trust, peer, a certificate) the login has none either; where that
doesn't let it in, an operator makes a role and sets the URL for it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from durable.domain.errors import SettingsError, Unavailable

_CONNECT_SECONDS = 10

# Functions that x.f could call, and types that it could cast to (see sql_guard.py).
_SERVER_NAMES = """
    SELECT proname::text FROM pg_catalog.pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace
      AND pronargs >= 1 AND pronargs - pronargdefaults <= 1
      AND proargtypes[0] <> 'internal'::regtype
    UNION
    SELECT typname::text FROM pg_catalog.pg_type
    WHERE typnamespace = 'pg_catalog'::regnamespace AND typname !~ '^_'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSqlSettings:
    """How agent SQL reaches Postgres.

    ``login_url`` is the URL of a login made by the operator; None: derive it.
    ``lease_seconds`` is T: a statement may take T/2, a transaction 0.8 T.
    """

    database_url: str
    login_url: str | None = None
    connections: int = 8
    lease_seconds: float = 10.0
    wait_seconds: float = 5.0

    @property
    def transaction_seconds(self) -> float:
        """The limit of a transaction: below T, so that a claim is never held up."""
        return self.lease_seconds * 0.8


@dataclass(frozen=True, slots=True)
class Login:
    """What is known once a first connection stood."""

    conninfo: str
    role_prefix: str
    server_names: frozenset[str]


async def prepare_login(settings: AgentSqlSettings) -> Login:
    """Log in once, making or repairing the login if that is needed.

    Raises:
        SettingsError: the main role may not make a login, or it isn't let in.
        Unavailable: Postgres can't be reached.
    """
    if settings.login_url is not None:
        conninfo = _with_session(settings.login_url, settings)
        return await _look(conninfo)
    main = conninfo_to_dict(settings.database_url)
    try:
        async with await _connect(settings.database_url) as connection:
            cursor = await connection.execute("SELECT durable.agent_sql_login()")
            (login,) = await cursor.fetchone() or ("",)
            password = _derive(main.get("password"), login)
            own = make_conninfo(
                settings.database_url, user=login, password=password or ""
            )
            conninfo = _with_session(own, settings)
            try:
                return await _look(conninfo)
            except (Unavailable, SettingsError):
                await _install(connection, login, password)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SettingsError(
            f"the database role {main.get('user')} may not make the login for agent "
            f"SQL ({error.diag.message_primary}): give it CREATEROLE, or make a role "
            "as docs/sql.md says and set DURABLE_SQL_URL"
        ) from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"Postgres did not answer: {error}") from error
    try:
        return await _look(conninfo)
    except Unavailable as error:
        raise SettingsError(
            f"{error}; the login for agent SQL is made from the main database URL, "
            "which needs a password for that; else set DURABLE_SQL_URL"
        ) from error


async def _look(conninfo: str) -> Login:
    """One connection as the login: may it work, and what does the server have?"""
    try:
        async with await _connect(conninfo) as connection:
            cursor = await connection.execute("SELECT durable.agent_role_prefix()")
            (prefix,) = await cursor.fetchone() or ("",)
            cursor = await connection.execute(_SERVER_NAMES)
            names = frozenset(row[0] for row in await cursor.fetchall())
            return Login(conninfo, prefix, names)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SettingsError(f"the login for agent SQL lacks rights: {error}") from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"agent SQL can't log in: {error}") from error


async def _connect(conninfo: str) -> AsyncConnection[Any]:
    return await AsyncConnection.connect(
        conninfo, autocommit=True, connect_timeout=_CONNECT_SECONDS
    )


async def _install(
    connection: AsyncConnection[Any], login: str, password: str | None
) -> None:
    verifier = None
    if password is not None:
        # The verifier, not the password: statements may be logged.
        verifier = connection.pgconn.encrypt_password(
            password.encode(), login.encode(), b"scram-sha-256"
        ).decode()
    await connection.execute("SELECT durable.install_agent_sql(%s)", (verifier,))


def _derive(password: Any, login: str) -> str | None:
    if not password:
        return None
    message = f"durable agent sql login {login}".encode()
    return hmac.new(str(password).encode(), message, hashlib.sha256).hexdigest()


def _with_session(conninfo: str, settings: AgentSqlSettings) -> str:
    """Add the session's settings: limits, and one meaning for texts and literals."""
    half = str(int(settings.lease_seconds * 500))
    options = {
        "statement_timeout": half,
        "lock_timeout": half,
        "idle_in_transaction_session_timeout": half,
        "tcp_user_timeout": half,
        "client_connection_check_interval": "1000",
        "search_path": "pg_catalog",
        "standard_conforming_strings": "on",
        "datestyle": "ISO",
        "intervalstyle": "iso_8601",
        "timezone": "UTC",
        "bytea_output": "hex",
        "default_transaction_isolation": r"read\ committed",
        "default_transaction_read_only": "off",
        "synchronous_commit": "on",
        "jit": "off",
    }
    text = " ".join(f"-c {name}={value}" for name, value in options.items())
    given = conninfo_to_dict(conninfo)
    return make_conninfo(
        conninfo,
        options=f"{given.get('options') or ''} {text}".strip(),
        client_encoding="UTF8",
        application_name="durable agent sql",
        keepalives_idle=4,
        keepalives_interval=2,
        keepalives_count=4,
        tcp_user_timeout=int(half),
        connect_timeout=_CONNECT_SECONDS,
    )
