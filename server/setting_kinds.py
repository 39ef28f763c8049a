"""What a setting may be: a parser for each kind of text, which says what it wants."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

KIB: Final = 1024
MIB: Final = 1024 * KIB
_SIZE_UNITS: Final = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": 1024 * MIB}
_SIZE = re.compile(r"(\d+)\s*([a-z]*)", re.IGNORECASE)
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# What may stand among allowed origins instead of one.
ANY_ORIGIN: Final = "*"
LOOPBACK: Final = "loopback"
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.\-\[\]:]+")
MAX_LABELS: Final = 16
MIN_SECRET_CHARACTERS: Final = 32
MAX_PROCESSES: Final = 256
_DSN_SCHEMES: Final = ("postgresql", "postgres")


Parser = Callable[[str], Any]


def a_text(value: str) -> str:
    """A text that is not empty."""
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def a_path(value: str) -> Path:
    """A path; `~` is the home directory."""
    return Path(a_text(value)).expanduser()


def a_dsn(value: str) -> str:
    """A Postgres URL."""
    wanted = "a URL such as postgresql://user:password@host:5432/database"
    try:
        parts = urlsplit(value.strip())
        if parts.scheme not in _DSN_SCHEMES or parts.port == 0:
            raise ValueError(wanted)
    except ValueError:
        raise ValueError(wanted) from None
    return value.strip()


def seconds(least: float, most: float) -> Parser:
    """Seconds from ``least`` to ``most``."""
    return _between(least, most, f"seconds, from {least:g} to {most:g}")


def number(least: float, most: float) -> Parser:
    """A number from ``least`` to ``most``."""
    return _between(least, most, f"a number from {least:g} to {most:g}")


def _between(least: float, most: float, wanted: str) -> Parser:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            raise ValueError(wanted) from None
        if not least <= number <= most:  # also refuses "nan"
            raise ValueError(wanted)
        return number

    return parse


def an_address(value: str) -> str:
    """``host:port``."""
    host, _, port = value.strip().rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("host:port, such as worker-1:8788")
    return value.strip()


def a_secret(value: str) -> str:
    """A long text that is hard to guess."""
    if len(value) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"at least {MIN_SECRET_CHARACTERS} random characters")
    return value


def labels(value: str) -> tuple[str, ...]:
    """Labels with commas between."""
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


def count(least: int, most: int) -> Parser:
    """A whole number from ``least`` to ``most``."""

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


def size(least: int, most: int) -> Parser:
    """Bytes, as a number or with a unit."""

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


def origins(value: str) -> tuple[str, ...]:
    """Origins of pages, ``loopback`` or ``*``, with commas between."""
    found = tuple(part.strip().lower() for part in value.split(",") if part.strip())
    for origin in found:
        if origin not in (ANY_ORIGIN, LOOPBACK) and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "origins such as https://app.example.com, with commas between, or "
                "loopback, or *"
            )
    return found


def a_flag(value: str) -> bool:
    """On or off."""
    words = {"on": True, "true": True, "1": True, "off": False, "false": False}
    words["0"] = False
    if value.strip().lower() not in words:
        raise ValueError("on or off")
    return words[value.strip().lower()]


def choice(*allowed: str) -> Parser:
    """One of these words."""

    def parse(value: str) -> str:
        if value.strip().lower() not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return value.strip().lower()

    return parse


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or a host of that name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def setting(
    default: Any, parse: Parser, doc: str, *, dev: Any = None, secret: bool = False
) -> Any:
    """A field of ``Settings``; ``dev`` is the default of ``durable dev`` if other.

    A ``secret`` is shown by no repr and repeated by no error.
    """
    metadata = {"parse": parse, "doc": doc, "dev": dev, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)
