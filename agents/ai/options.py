"""How a request is to be made: the gateway's defaults, the call's options, headers."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict, get_args

from agents.ai.settings import (
    DEFAULT_GATEWAY,
    MAX_ATTEMPTS,
    MAX_CACHE_TTL,
    MAX_RETRY_DELAY_MS,
    AISettings,
    Backoff,
    Gateway,
)

PREFIX: Final = "cf-aig-"
MAX_METADATA: Final = 5
"""Entries of a request's metadata."""


class Retries(TypedDict, total=False):
    """How often a request is tried, and how long is waited in between."""

    max_attempts: int
    retry_delay_ms: float
    backoff: Backoff


class GatewayOptions(TypedDict, total=False):
    """``gateway=`` of a request. What is left out is as durable.toml says."""

    id: str
    cache_key: str
    cache_ttl: float
    skip_cache: bool
    metadata: Mapping[str, str | int | float | bool | None]
    collect_log: bool
    event_id: str
    request_timeout_ms: float
    retries: Retries


@dataclass(frozen=True, slots=True)
class Options:
    """All that was decided about one request."""

    gateway: Gateway
    cache_key: str | None = None
    metadata: Mapping[str, Any] | None = None
    event_id: str | None = None

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the nth attempt has failed, from 1."""
        gateway = self.gateway
        factors = {"constant": 1, "linear": attempt}
        factor: int = factors.get(gateway.backoff, 1 << (attempt - 1))
        return min(gateway.retry_delay_ms * factor, MAX_RETRY_DELAY_MS) / 1000


def resolve(
    settings: AISettings,
    given: GatewayOptions | Mapping[str, Any] | None,
    headers: Mapping[str, str] | None,
) -> tuple[Options, dict[str, str]]:
    """The options, and the headers that go on to the provider.

    A header ``cf-aig-…`` is an option, and goes before the one in ``given``.

    Raises:
        ValueError: an option that there isn't, or that can't be.
        AIError: a gateway that there isn't.
    """
    options = dict(given or {})
    _known("gateway", options, GatewayOptions.__annotations__)
    retries = dict(options.pop("retries", None) or {})
    _known("gateway.retries", retries, Retries.__annotations__)
    options |= retries
    sent: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if name.lower().startswith(PREFIX):
            key, read = _header(name)
            options[key] = _read(name, value, read)
        else:
            sent[name] = value
    gateway = settings.gateway(str(options.pop("id", DEFAULT_GATEWAY)))
    return _checked(gateway, options), sent


_HEADERS: Final[Mapping[str, tuple[str, Any]]] = {
    "skip-cache": ("skip_cache", lambda text: _flag(text)),
    "cache-ttl": ("cache_ttl", float),
    "cache-key": ("cache_key", str),
    "max-attempts": ("max_attempts", int),
    "retry-delay": ("retry_delay_ms", float),
    "backoff": ("backoff", str),
    "request-timeout": ("request_timeout_ms", float),
    "metadata": ("metadata", json.loads),
    "collect-log": ("collect_log", lambda text: _flag(text)),
    "event-id": ("event_id", str),
    "gateway-id": ("id", str),
}


def _header(name: str) -> tuple[str, Any]:
    short = name.lower().removeprefix(PREFIX)
    _known("header", {short: 0}, _HEADERS)
    return _HEADERS[short]


def _read(name: str, value: str, read: Any) -> Any:
    try:
        return read(value)
    except ValueError:
        raise ValueError(f"{value!r} can't be the header {name}") from None


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _checked(gateway: Gateway, options: dict[str, Any]) -> Options:
    skip = options.pop("skip_cache", False)
    metadata = options.pop("metadata", None)
    cache_key = options.pop("cache_key", None)
    event_id = options.pop("event_id", None)
    for key, value in options.items():
        check(key, value)
    if metadata is not None:
        _check_metadata(metadata)
    gateway = replace(gateway, **options)
    if skip:
        gateway = replace(gateway, cache_ttl=0)
    return Options(gateway, cache_key, metadata, event_id)


RANGES: Final[Mapping[str, tuple[type, float, float]]] = {
    "cache_ttl": (float, 0, MAX_CACHE_TTL),
    "max_attempts": (int, 1, MAX_ATTEMPTS),
    "retry_delay_ms": (float, 0, MAX_RETRY_DELAY_MS),
    "request_timeout_ms": (float, 1, 24 * 3600 * 1000),
}


def check(key: str, value: Any) -> None:
    """Refuse what an option can't be.

    Raises:
        ValueError: it says what the option may be.
    """
    if key == "backoff":
        if value not in get_args(Backoff):
            raise ValueError(f"{key} must be one of {', '.join(get_args(Backoff))}")
    elif key == "collect_log":
        if not isinstance(value, bool):
            raise ValueError(f"{key} must be true or false")
    else:
        kind, low, high = RANGES[key]
        wanted = "a whole number" if kind is int else "a number"
        is_number = isinstance(value, int if kind is int else (int, float))
        if not is_number or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{key} must be {wanted} from {low:g} to {high:g}")


def _check_metadata(metadata: Any) -> None:
    plain = (str, int, float, bool, type(None))
    if not isinstance(metadata, Mapping) or not all(
        isinstance(key, str) and isinstance(value, plain)
        for key, value in metadata.items()
    ):
        raise ValueError("metadata must be texts, numbers and booleans by name")
    if len(metadata) > MAX_METADATA:
        raise ValueError(f"metadata has {MAX_METADATA} entries at most")


def _known(what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"{what} has no {name!r}; {hint}")
