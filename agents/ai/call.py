"""One call of ``env.AI``: what was asked, of whom, and what became of it."""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agents.ai.options import Options
from agents.ai.settings import Model
from agents.ai.wire import Target
from durable import now

MAX_CACHED_BYTES: Final = 2**20
"""An answer that is longer isn't cached."""


_counter = itertools.count()


@dataclass(slots=True)
class Call:
    """Grows while the call is made; ``row`` is its row of the log."""

    options: Options
    endpoint: str
    is_stream: bool
    id: str = ""
    started: float = field(default_factory=time.monotonic)
    model: Model | None = None
    provider: str = ""
    step: int = 0
    attempts: int = 0
    cache_status: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Sorts by time, within a millisecond by a node's own count.
        moment = int(now().timestamp() * 1000)
        count = next(_counter) % 16**6
        self.id = f"{moment:015d}-{count:06x}-{secrets.token_hex(6)}"

    @property
    def cost(self) -> float | None:
        """US dollars; None without prices, 0 from the cache."""
        if self.cache_status == "HIT":
            return 0.0
        if self.model is None:
            return None
        return self.model.cost(
            self.usage.get("prompt_tokens", 0), self.usage.get("completion_tokens", 0)
        )

    @property
    def about(self) -> dict[str, Any]:
        """What a caller is told beside the answer."""
        return {
            "log_id": self.id if self.options.gateway.collect_log else None,
            "provider": self.provider,
            "model": self.model and self.model.model,
            "step": self.step,
            "cache_status": self.cache_status,
            "cost": self.cost,
        }

    @property
    def headers(self) -> dict[str, str]:
        """The same as headers of a response."""
        found = {
            "cf-aig-step": str(self.step),
            "cf-aig-cache-status": self.cache_status,
            "cf-aig-log-id": self.about["log_id"],
        }
        return {name: value for name, value in found.items() if value is not None}

    def row(self, status: str, error: BaseException | None) -> dict[str, Any]:
        """The row of the log: neither the question nor the answer is in it."""
        return {
            "id": self.id,
            "created_at": now().timestamp(),
            "gateway": self.options.gateway.id,
            "endpoint": self.endpoint,
            "provider": self.provider,
            "model": self.model and self.model.model,
            "status": status,
            "status_code": getattr(error, "status", None if error else 200),
            "error": None if error is None else str(error),
            "cached": self.cache_status == "HIT",
            "stream": self.is_stream,
            "step": self.step,
            "attempts": self.attempts,
            "tokens_in": self.usage.get("prompt_tokens", 0),
            "tokens_out": self.usage.get("completion_tokens", 0),
            "cost": self.cost,
            "duration_ms": round((time.monotonic() - self.started) * 1000),
            "metadata": self.options.metadata and dict(self.options.metadata),
            "event_id": self.options.event_id,
        }


def cache_key(
    target: Target,
    endpoint: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    own: str | None,
) -> str:
    """The name of an answer in the cache: equal for equal questions, or the caller's.

    The key of the provider is in it, as a hash: another account has other answers.
    """
    if own is not None:
        asked: list[Any] = ["own", own]
    else:
        secret = hashlib.sha256((target.key or "").encode()).hexdigest()
        asked = [target.base_url, endpoint, secret, body, sorted(headers.items())]
    text = json.dumps(asked, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
