"""Where an agent is reached: the URL rules of the client. No I/O.

Invariant: for the same options the path is the one that the npm client asks for,
because the instance's name *is* the raw path segment.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote, urlencode

from yarl import URL

from agents.naming import kebab_case

logger = logging.getLogger(__name__)

QueryValue: TypeAlias = "str | int | float | bool | None"
QueryValues: TypeAlias = Mapping[str, QueryValue]
Query: TypeAlias = (
    QueryValues | Callable[[], QueryValues] | Callable[[], Awaitable[QueryValues]]
)

# What a browser leaves alone in a path. `?`, `#` and `\` are not in it: there they
# would silently end or split the path, and so address another agent.
_PATH_SAFE = "/%!$&'()*+,;=:@[]|^"
_DROPPED_BY_BROWSERS = str.maketrans("", "", "\t\n\r")
_SCHEME = re.compile(r"^(https?|wss?)://")
_LOCAL_HOSTS = (
    "localhost:",
    "127.0.0.1:",
    "192.168.",
    "10.",
    "[::ffff:7f00:1]:",
)
_PRIVATE_172 = re.compile(r"^172\.(1[6-9]|2[0-9]|3[01])(\.|$)")
_PROTOCOLS = {"ws": False, "http": False, "wss": True, "https": True}


def is_local_host(host: str) -> bool:
    """Tell whether a host (with its port) is spoken to without TLS by default."""
    return host.startswith(_LOCAL_HOSTS) or _PRIVATE_172.match(host) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAddress:
    """The options that the socket and `agent_fetch` have in common."""

    agent: str
    host: str
    name: str = "default"
    path: str = ""
    prefix: str = "agents"
    base_path: str | None = None
    query: Query | None = None
    protocol: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no reconnect could mend."""
        if self.path.startswith("/"):
            raise ValueError("path must not start with a slash")
        if self.protocol is not None and self.protocol not in _PROTOCOLS:
            known = ", ".join(_PROTOCOLS)
            raise ValueError(f"protocol must be one of {known}, not {self.protocol!r}")
        if not URL(self._base_url("http"), encoded=True).host:
            raise ValueError(f"host {self.host!r} names no host")
        if "/" in self.name and not self.base_path:
            logger.warning(
                "the agent's name contains a slash: what follows it is sent as a path",
                extra={"agent_name": self.name},
            )

    @property
    def segment(self) -> str:
        """The agent's class as a URL segment."""
        return kebab_case(self.agent)

    async def url(self, scheme: Literal["ws", "http"], **first: str) -> URL:
        """Build the URL, asking the query function anew; `first` lead the query."""
        query = self.query() if callable(self.query) else self.query
        values = (await query if inspect.isawaitable(query) else query) or {}
        pairs = [*first.items(), *_given(values)]
        suffix = f"?{urlencode(pairs)}" if pairs else ""
        return URL(self._base_url(scheme) + suffix, encoded=True)

    def _base_url(self, scheme: str) -> str:
        host = _SCHEME.sub("", self.host).removesuffix("/")
        secure = (
            not is_local_host(host)
            if self.protocol is None
            else _PROTOCOLS[self.protocol]
        )
        where = self.base_path or f"{self.prefix}/{self.segment}/{self.name}"
        rest = f"/{self.path}" if self.path else ""
        return f"{scheme}{'s' if secure else ''}://{host}/{_quote_path(where + rest)}"


def _quote_path(path: str) -> str:
    return quote(path.translate(_DROPPED_BY_BROWSERS), safe=_PATH_SAFE)


def _given(values: QueryValues) -> list[tuple[str, str]]:
    return [
        (key, str(value).lower() if isinstance(value, bool) else str(value))
        for key, value in values.items()
        if value is not None
    ]
