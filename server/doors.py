"""Who may come in, and with what: origins, headers, the reach of a public port."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from multidict import CIMultiDict

from durable import IDENTITY_HEADER
from server.setting_kinds import ANY_ORIGIN, LOOPBACK, is_loopback

if TYPE_CHECKING:
    from multidict import MultiMapping

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Of one hop only, or ours alone. `Upgrade` and `Connection` stay: an agent may look.
_DROPPED: Final = frozenset(
    {
        IDENTITY_HEADER.lower(),
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
    }
)
_KEPT_OF_CONNECTION: Final = frozenset({"close", "keep-alive", "upgrade", ""})


def origin_may_connect(origin: str | None, host: str, allowed: Collection[str]) -> bool:
    """Whether a page of this origin may open a socket; without one it is no page.

    Browsers let every page open sockets anywhere, with the cookies of the host that is
    asked, and say in ``Origin`` whose page it is.
    """
    if origin is None or ANY_ORIGIN in allowed:
        return True
    origin = origin.lower()
    if origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        asked = urlsplit(f"//{host.lower()}")
        asked_port = asked.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return False  # "null" is one of these
    if not parts.hostname:
        return False
    if LOOPBACK in allowed and is_loopback(parts.hostname):
        return True
    return (parts.hostname, port) == (asked.hostname, asked_port)


def kept_headers(headers: MultiMapping[str]) -> MultiMapping[str]:
    """A client's headers without those that are not for the agent to see."""
    named = _named(headers.getall("Connection", ()))
    gone = [
        name for name in headers if name.lower() in _DROPPED or name.lower() in named
    ]
    if not gone:
        return headers
    kept = CIMultiDict(headers)
    for name in gone:
        kept.popall(name, None)
    return kept


def _named(connection: Iterable[str]) -> set[str]:
    """What ``Connection`` says is for this hop only."""
    names = {name.strip().lower() for value in connection for name in value.split(",")}
    return names - _KEPT_OF_CONNECTION


def open_door(host: str, *, guarded: bool, open_to_all: bool) -> str | None:
    """Why a node shouldn't listen on ``host``; None if it may."""
    if guarded or open_to_all or is_loopback(host):
        return None
    return (
        f"other machines reach {host}, and the module has no `authorize`, so everybody "
        "could use every agent: define authorize(request, info) in it, or set "
        "DURABLE_OPEN_TO_ALL=on if that is what you want"
    )
