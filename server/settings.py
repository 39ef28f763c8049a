"""Environment and configuration → one frozen ``Settings``, read when a process starts.

Every setting is a ``DURABLE_*`` variable. The fields below are the only list of
them: name, unit, default and meaning stand together, and ``describe()`` prints it.
A value that can't be used is an error that names the variable and says what may
stand there, before anything is started.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from server.config_project import Project
from server.config_vars import name_problem
from server.setting_kinds import (
    KIB,
    LOOPBACK,
    MAX_PROCESSES,
    MIB,
    a_dsn,
    a_flag,
    a_path,
    a_secret,
    a_text,
    an_address,
    choice,
    count,
    is_loopback,
    labels,
    number,
    origins,
    seconds,
    setting,
    size,
)

PREFIX: Final = "DURABLE_"
VAR_PREFIX: Final = "DURABLE_VAR_"


class SettingsError(Exception):
    """A variable holds a value that can't be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose. The variable is DURABLE_ + the name in capitals."""

    database_url: str | None = setting(
        None,
        a_dsn,
        "Postgres 15-18 to use, as a URL, straight to the primary (no pooler). Unset: "
        "`durable dev` starts the embedded one, `durable serve` refuses to start.",
        secret=True,
    )
    host: str = setting(
        "127.0.0.1", a_text, "Address to listen on; 0.0.0.0 is every interface."
    )
    port: int = setting(8787, count(0, 65535), "TCP port; 0 picks a free one.")
    data_dir: Path = setting(
        Path(".durable"),
        a_path,
        "Directory of the embedded Postgres, from the current directory.",
    )
    shards: int = setting(
        1024,
        count(1, 65536),
        "Number of shards; fixed when the database is initialised.",
    )
    read_connections: int = setting(
        4, count(1, 64), "Connections for reads, at most, per node."
    )
    sql_connections: int = setting(
        8, count(1, 64), "Connections for agents' own SQL, at most, per node."
    )
    sql_url: str | None = setting(
        None,
        a_dsn,
        "Login for agents' own SQL, as a URL, where the main one may not make roles.",
        secret=True,
    )
    lease_seconds: float = setting(
        10.0,
        seconds(2, 600),
        "T: Postgres ends the lane of a node that is silent for so long, in seconds.",
        dev=60.0,
    )
    freshness_seconds: float = setting(
        0.3,
        seconds(0.05, 5),
        "W: nothing leaves a node whose lane was last confirmed longer ago; seconds.",
    )
    idle_seconds: float = setting(
        10.0,
        seconds(0.05, 86400),
        "An object that is idle for so long is evicted from memory, in seconds.",
    )
    start_timeout_seconds: float = setting(
        30.0, seconds(0.1, 600), "`on_start` may take so long, in seconds."
    )
    drain_seconds: float = setting(
        10.0,
        seconds(0, 600),
        "After SIGTERM running handlers and streams may take so long, in seconds.",
    )
    max_body_bytes: int = setting(
        10 * MIB, size(1, 1024 * MIB), "Largest body of an HTTP request, in bytes."
    )
    max_message_bytes: int = setting(
        32 * MIB, size(1, 1024 * MIB), "Largest WebSocket message, in bytes."
    )
    socket_buffer_bytes: int = setting(
        4 * MIB,
        size(64 * KIB, 1024 * MIB),
        "Bytes kept for a client that reads slowly; beyond, it is closed with 1013.",
    )
    max_sockets: int = setting(
        100_000, count(1, 10_000_000), "WebSockets that one node holds, at most."
    )
    max_value_bytes: int = setting(
        32 * MIB,
        size(KIB, 1024 * MIB),
        "Largest stored value, the state too, in bytes as stored.",
    )
    cache_bytes_per_object: int = setting(
        16 * MIB,
        size(0, 1024 * MIB),
        "Bytes of stored keys and values that one object keeps in memory.",
    )
    cache_bytes: int = setting(
        256 * MIB,
        size(0, 64 * 1024 * MIB),
        "Bytes of stored keys and values that all objects of a node keep in memory.",
    )
    max_waiting: int = setting(
        1_000,
        count(1, 1_000_000),
        "Invocations that may wait for one object; beyond, they are refused with 503.",
    )
    processes: int = setting(
        1,
        count(1, MAX_PROCESSES),
        "Nodes that `durable serve` runs on this machine; they share the port.",
    )
    role: str = setting(
        "both",
        choice("front", "worker", "both"),
        "front: hold clients' sockets; worker: own objects, without a public port; or "
        "both.",
    )
    link_host: str = setting(
        "127.0.0.1",
        a_text,
        "Address on which other nodes reach this one; beyond loopback with a secret.",
    )
    link_port: int = setting(
        0, count(0, 65535), "TCP port for other nodes; 0 picks a free one."
    )
    link_advertise: str | None = setting(
        None,
        an_address,
        "host:port that other nodes are to dial, if not the one that is listened on.",
    )
    link_secret: str | None = setting(
        None,
        a_secret,
        "What nodes know each other by. Unset, on loopback: one from the database.",
        secret=True,
    )
    link_tls_cert: Path | None = setting(
        None, a_path, "Certificate of this node for TLS between nodes, a file of PEM."
    )
    link_tls_key: Path | None = setting(
        None, a_path, "The certificate's private key, a file of PEM, not encrypted."
    )
    link_tls_ca: Path | None = setting(
        None, a_path, "The CA that signs the certificates of all nodes, and no others'."
    )
    allowed_origins: tuple[str, ...] = setting(
        (),
        origins,
        "Origins of pages that may open WebSockets, besides those of this host.",
        dev=(LOOPBACK,),
    )
    open_to_all: bool = setting(
        False,
        a_flag,
        "Whether a node that others reach serves without an `authorize`: on or off.",
    )
    idle_connection_seconds: float = setting(
        75.0,
        seconds(1, 3600),
        "A connection that brings no whole request head for so long is closed.",
    )
    body_seconds: float = setting(
        30.0,
        seconds(1, 3600),
        "A request's body may take so long, and a second more for each KiB.",
    )
    admin_host: str = setting(
        "127.0.0.1", a_text, "Address of health checks and metrics."
    )
    admin_port: int | None = setting(
        None,
        count(0, 65535),
        "TCP port of health checks and metrics; unset: none. 0 picks a free one.",
    )
    admin_token: str | None = setting(
        None,
        a_secret,
        "Bearer token of metrics; needed where admin_host is beyond loopback.",
        secret=True,
    )
    labels: tuple[str, ...] = setting(
        (),
        labels,
        "Labels of this worker, with commas between: where it is.",
    )
    weight: float = setting(
        1.0,
        number(0.01, 100),
        "This worker's share of the objects, as against other workers' weights.",
    )
    blocked_seconds: float = setting(
        1.0,
        seconds(0.05, 3600),
        "Code that keeps the event loop for so long is logged, with its stack.",
    )
    show_errors: bool = setting(
        False,
        a_flag,
        "Whether clients see the text of an unexpected error, or only its id: on or "
        "off.",
        dev=True,
    )
    log_level: str = setting(
        "info", choice("debug", "info", "warning", "error"), "Least level to log."
    )
    vars: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({}),
        repr=False,  # they may be secrets
        metadata={"doc": "DURABLE_VAR_NAME=value becomes `self.env.NAME`."},
    )
    project: Project = field(default=Project())

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        *,
        dev: bool = False,
        project: Project | None = None,
    ) -> Settings:
        """Reads the variables; ``dev`` chooses the defaults of ``durable dev``.

        Variables go before what the ``project`` configures, and that before defaults.

        Raises:
            SettingsError: a value can't be used.
        """
        known = _known()
        project = project or Project()
        values: dict[str, Any] = {
            f.name: f.metadata["dev"]
            for f in known.values()
            if dev and f.metadata["dev"] is not None
        }
        values |= {name: entry.value for name, entry in project.settings.items()}
        for name, text in environ.items():
            if not name.startswith(PREFIX) or name.startswith(VAR_PREFIX):
                continue
            if name not in known:
                continue  # see unknown_settings
            values[known[name].name] = _parsed(name, text, known[name].metadata)
        variables = {**project.vars, **_vars(environ, project)}
        settings = cls(**values, vars=MappingProxyType(variables), project=project)
        _check(settings, lambda name: _origin(name, environ, project))
        return settings


def _check(settings: Settings, origin: Callable[[str], str]) -> None:
    """Settings that don't go together are refused.

    Raises:
        SettingsError: naming what would have to change.
    """
    if settings.freshness_seconds * 4 > settings.lease_seconds:
        raise SettingsError(
            f"{origin('freshness_seconds')} must be at most a quarter of "
            f"{origin('lease_seconds')} ({settings.lease_seconds:g})"
        )
    tls = ("link_tls_cert", "link_tls_key", "link_tls_ca")
    missing = [name for name in tls if getattr(settings, name) is None]
    if 0 < len(missing) < len(tls):
        raise SettingsError(
            f"TLS between nodes needs {', '.join(map(origin, tls))}; there is no "
            f"{' and no '.join(map(origin, missing))}"
        )
    for host, secret in (("link_host", "link_secret"), ("admin_host", "admin_token")):
        where = getattr(settings, host)
        unused = host == "admin_host" and settings.admin_port is None
        if not unused and not getattr(settings, secret) and not is_loopback(where):
            raise SettingsError(
                f"{origin(host)} is {where}, which other machines may reach: set "
                f"{origin(secret)}, the same on every node"
            )


def _origin(name: str, environ: Mapping[str, str], project: Project) -> str:
    """What a user would have to change to change a setting."""
    variable = PREFIX + name.upper()
    configured = project.settings.get(name)
    return variable if configured is None or variable in environ else configured.where


def _parsed(name: str, text: str, metadata: Mapping[str, Any]) -> Any:
    try:
        return metadata["parse"](text)
    except ValueError as error:
        shown = "" if metadata["secret"] else f"{text!r} is not usable; "
        raise SettingsError(f"{name}: {shown}it must be {error}") from None


def _known() -> dict[str, dataclasses.Field[Any]]:
    fields = dataclasses.fields(Settings)
    return {PREFIX + f.name.upper(): f for f in fields if "parse" in f.metadata}


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """A warning for each DURABLE_* variable that sets nothing.

    No error: in a rolling upgrade the older version meets the newer one's settings.
    """
    known = _known()
    warnings: list[str] = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            if name.startswith(VAR_PREFIX):
                continue
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(f"{name} is no setting of this version{hint}")
    return warnings


def _vars(environ: Mapping[str, str], project: Project) -> dict[str, str]:
    found = {
        name.removeprefix(VAR_PREFIX): value
        for name, value in environ.items()
        if name.startswith(VAR_PREFIX)
    }
    bound = project.bound
    for name in found:
        problem = name_problem(name)
        if problem is None and name in bound:
            problem = "is the name of a binding too"
        if problem is not None:
            raise SettingsError(
                f"{VAR_PREFIX}{name}: what follows {VAR_PREFIX} {problem}"
            )
    return found


def describe() -> str:
    """All settings as text: variable, default and meaning."""
    lines: list[str] = []
    for f in dataclasses.fields(Settings):
        if f.name == "vars":
            lines.append(f"{VAR_PREFIX}<NAME>\n    {f.metadata['doc']}")
        if "parse" not in f.metadata:
            continue
        default = "unset" if f.default is None or f.default == () else f"{f.default}"
        if f.metadata["dev"] is not None:
            default += f"; {f.metadata['dev']} in `durable dev`"
        lines.append(f"{PREFIX}{f.name.upper()}  ({default})\n    {f.metadata['doc']}")
    return "\n".join(lines)
