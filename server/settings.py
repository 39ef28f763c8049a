"""Environment and configuration → one frozen ``Settings``, read when a process starts.

Every setting is a ``DURABLE_*`` variable. The fields below are the only list of
them: name, unit, default and meaning stand together, and ``describe()`` prints it.
A value that can't be used is an error that names the variable and says what may
stand there, before anything is started.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from server.config_project import Project
from server.config_vars import name_problem

PREFIX: Final = "DURABLE_"
VAR_PREFIX: Final = "DURABLE_VAR_"

KIB: Final = 1024
MIB: Final = 1024 * KIB
_SIZE_UNITS: Final = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": 1024 * MIB}
_SIZE = re.compile(r"(\d+)\s*([a-z]*)", re.IGNORECASE)
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MAX_LABELS: Final = 16
MIN_SECRET_CHARACTERS: Final = 32
_DSN_SCHEMES: Final = ("postgresql", "postgres")


class SettingsError(Exception):
    """A variable holds a value that can't be used; the text says which and why."""


Parser = Callable[[str], Any]


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def _path(value: str) -> Path:
    return Path(_text(value)).expanduser()


def _dsn(value: str) -> str:
    wanted = "a URL such as postgresql://user:password@host:5432/database"
    try:
        parts = urlsplit(value.strip())
        if parts.scheme not in _DSN_SCHEMES or parts.port == 0:
            raise ValueError(wanted)
    except ValueError:
        raise ValueError(wanted) from None
    return value.strip()


def _seconds(least: float, most: float) -> Parser:
    def parse(value: str) -> float:
        wanted = f"seconds, from {least:g} to {most:g}"
        try:
            number = float(value)
        except ValueError:
            raise ValueError(wanted) from None
        if not least <= number <= most:  # also refuses "nan"
            raise ValueError(wanted)
        return number

    return parse


def _number(least: float, most: float) -> Parser:
    def parse(value: str) -> float:
        wanted = f"a number from {least:g} to {most:g}"
        try:
            number = float(value)
        except ValueError:
            raise ValueError(wanted) from None
        if not least <= number <= most:  # also refuses "nan"
            raise ValueError(wanted)
        return number

    return parse


def _address(value: str) -> str:
    host, _, port = value.strip().rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("host:port, such as worker-1:8788")
    return value.strip()


def _secret(value: str) -> str:
    if len(value) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"at least {MIN_SECRET_CHARACTERS} random characters")
    return value


def _labels(value: str) -> tuple[str, ...]:
    labels = tuple(label.strip() for label in value.split(",")) if value.strip() else ()
    if (
        len(labels) > MAX_LABELS
        or len(set(labels)) < len(labels)
        or not all(_LABEL.fullmatch(label) for label in labels)
    ):
        raise ValueError(
            f"up to {MAX_LABELS} different labels of small letters, digits and '-', "
            "each up to 63 characters, such as weur"
        )
    return labels


def _count(least: int, most: int) -> Parser:
    def parse(value: str) -> int:
        wanted = f"a whole number from {least} to {most}"
        try:
            number = int(value)
        except ValueError:
            raise ValueError(wanted) from None
        if not least <= number <= most:
            raise ValueError(wanted)
        return number

    return parse


def _size(least: int, most: int) -> Parser:
    def parse(value: str) -> int:
        wanted = (
            f"bytes from {least} to {most}, as a whole number or with KiB, MiB or GiB"
        )
        match = _SIZE.fullmatch(value.strip())
        unit = _SIZE_UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise ValueError(wanted)
        number = int(match[1]) * unit
        if not least <= number <= most:
            raise ValueError(wanted)
        return number

    return parse


def _flag(value: str) -> bool:
    words = {"on": True, "true": True, "1": True, "off": False, "false": False}
    words["0"] = False
    if value.strip().lower() not in words:
        raise ValueError("on or off")
    return words[value.strip().lower()]


def _choice(*allowed: str) -> Parser:
    def parse(value: str) -> str:
        if value.strip().lower() not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return value.strip().lower()

    return parse


def _setting(default: Any, parse: Parser, doc: str, *, dev: Any = None) -> Any:
    """A field of ``Settings``; ``dev`` is the default of ``durable dev`` if other."""
    return field(default=default, metadata={"parse": parse, "doc": doc, "dev": dev})


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose. The variable is DURABLE_ + the name in capitals."""

    database_url: str | None = _setting(
        None,
        _dsn,
        "Postgres 15-18 to use, as a URL, straight to the primary (no pooler). Unset: "
        "`durable dev` starts the embedded one, `durable serve` refuses to start.",
    )
    host: str = _setting(
        "127.0.0.1", _text, "Address to listen on; 0.0.0.0 is every interface."
    )
    port: int = _setting(8787, _count(0, 65535), "TCP port; 0 picks a free one.")
    data_dir: Path = _setting(
        Path(".durable"),
        _path,
        "Directory of the embedded Postgres, from the current directory.",
    )
    shards: int = _setting(
        1024,
        _count(1, 65536),
        "Number of shards; fixed when the database is initialised.",
    )
    read_connections: int = _setting(
        4, _count(1, 64), "Connections for reads, at most, per node."
    )
    sql_connections: int = _setting(
        8, _count(1, 64), "Connections for agents' own SQL, at most, per node."
    )
    sql_url: str | None = _setting(
        None,
        _dsn,
        "Login for agents' own SQL, as a URL, where the main one may not make roles.",
    )
    lease_seconds: float = _setting(
        10.0,
        _seconds(2, 600),
        "T: Postgres ends the lane of a node that is silent for so long, in seconds.",
        dev=60.0,
    )
    freshness_seconds: float = _setting(
        0.3,
        _seconds(0.05, 5),
        "W: nothing leaves a node whose lane was last confirmed longer ago; seconds.",
    )
    idle_seconds: float = _setting(
        10.0,
        _seconds(0.05, 86400),
        "An object that is idle for so long is evicted from memory, in seconds.",
    )
    start_timeout_seconds: float = _setting(
        30.0, _seconds(0.1, 600), "`on_start` may take so long, in seconds."
    )
    drain_seconds: float = _setting(
        10.0,
        _seconds(0, 600),
        "After SIGTERM running handlers and streams may take so long, in seconds.",
    )
    max_body_bytes: int = _setting(
        10 * MIB, _size(1, 1024 * MIB), "Largest body of an HTTP request, in bytes."
    )
    max_message_bytes: int = _setting(
        32 * MIB, _size(1, 1024 * MIB), "Largest WebSocket message, in bytes."
    )
    socket_buffer_bytes: int = _setting(
        4 * MIB,
        _size(64 * KIB, 1024 * MIB),
        "Bytes kept for a client that reads slowly; beyond, it is closed with 1013.",
    )
    max_sockets: int = _setting(
        100_000, _count(1, 10_000_000), "WebSockets that one node holds, at most."
    )
    max_waiting: int = _setting(
        1_000,
        _count(1, 1_000_000),
        "Invocations that may wait for one object; beyond, they are refused with 503.",
    )
    role: str = _setting(
        "both",
        _choice("front", "worker", "both"),
        "front: hold clients' sockets; worker: own objects, without a public port; or "
        "both.",
    )
    link_host: str = _setting(
        "127.0.0.1",
        _text,
        "Address on which other nodes reach this one; beyond loopback with a secret.",
    )
    link_port: int = _setting(
        0, _count(0, 65535), "TCP port for other nodes; 0 picks a free one."
    )
    link_advertise: str | None = _setting(
        None,
        _address,
        "host:port that other nodes are to dial, if not the one that is listened on.",
    )
    link_secret: str | None = _setting(
        None,
        _secret,
        "What nodes know each other by. Unset, on loopback: one from the database.",
    )
    labels: tuple[str, ...] = _setting(
        (),
        _labels,
        "Labels of this worker, with commas between, which location hints name.",
    )
    weight: float = _setting(
        1.0,
        _number(0.01, 100),
        "This worker's share of the objects, as against other workers' weights.",
    )
    show_errors: bool = _setting(
        False,
        _flag,
        "Whether clients see the text of an unexpected error, or only its id: on or "
        "off.",
        dev=True,
    )
    log_level: str = _setting(
        "info", _choice("debug", "info", "warning", "error"), "Least level to log."
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
        if settings.freshness_seconds * 4 > settings.lease_seconds:
            raise SettingsError(
                f"{_origin('freshness_seconds', environ, project)} must be at most a "
                f"quarter of {_origin('lease_seconds', environ, project)} "
                f"({settings.lease_seconds:g})"
            )
        if not settings.link_secret and not _is_loopback(settings.link_host):
            raise SettingsError(
                f"{_origin('link_host', environ, project)} is {settings.link_host}, "
                "which other machines may reach: set "
                f"{_origin('link_secret', environ, project)}, the same on every node"
            )
        return settings


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(name: str, environ: Mapping[str, str], project: Project) -> str:
    """What a user would have to change to change a setting."""
    variable = PREFIX + name.upper()
    configured = project.settings.get(name)
    return variable if configured is None or variable in environ else configured.where


def _parsed(name: str, text: str, metadata: Mapping[str, Any]) -> Any:
    try:
        return metadata["parse"](text)
    except ValueError as error:
        # The value of a DSN may hold a password: it is not repeated.
        secret = name.endswith(("_URL", "_SECRET"))
        shown = "" if secret else f"{text!r} is not usable; "
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
    bound = {binding.name for binding in project.bindings}
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
