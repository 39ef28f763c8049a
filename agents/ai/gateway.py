"""``env.AI.gateway(id)``: a gateway's log, and requests of several steps."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from agents.ai.gateway_object import PATCHABLE

if TYPE_CHECKING:
    from agents.ai.binding import AI
    from agents.ai.options import GatewayOptions
    from durable import Response

MAX_ROWS: Final = 1_000
"""Rows of the log in one answer."""


class _Caller(Protocol):
    def __call__(self, method: str, *args: Any) -> Awaitable[Any]: ...


class GatewayHandle:
    """One gateway."""

    def __init__(self, ai: AI, id: str, call: _Caller) -> None:
        self._ai = ai
        self._call = call
        self.id = id

    async def run(
        self,
        requests: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        gateway: GatewayOptions | None = None,
    ) -> Response:
        """Ask the first provider, or the next one when it fails.

        Each request has ``provider``, ``endpoint`` (``"chat/completions"``), ``query``
        (the body) and ``headers``. The answer is the provider's own, as a ``Response``.

        Raises:
            AIError: nobody answered.
        """
        steps = [requests] if isinstance(requests, Mapping) else list(requests)
        if not steps:
            raise ValueError("there is no request")
        return await self._ai.run_steps({**(gateway or {}), "id": self.id}, steps)

    async def get_log(self, log_id: str) -> dict[str, Any] | None:
        """A row of the log."""
        row: dict[str, Any] | None = await self._call("log", log_id)
        return row

    async def logs(
        self, *, limit: int = 100, before: str | None = None
    ) -> list[dict[str, Any]]:
        """Rows of the log, the newest first; ``before``: older than the one of this id.

        Raises:
            ValueError: more than 1,000 at once.
        """
        if not 1 <= limit <= MAX_ROWS:
            raise ValueError(f"limit must be from 1 to {MAX_ROWS:,}")
        rows: list[dict[str, Any]] = await self._call("logs", limit, before)
        return rows

    async def patch_log(self, log_id: str, **changes: Any) -> bool:
        """Set ``feedback``, ``score`` or ``metadata``; whether there is such a row.

        Raises:
            ValueError: anything else.
        """
        for name in changes:
            if name not in PATCHABLE:
                raise ValueError(f"{name!r} is none of {', '.join(PATCHABLE)}")
        found: bool = await self._call("patch_log", log_id, changes)
        return found

    def get_url(self, provider: str) -> str:
        """A provider's base URL, for a client of its own."""
        return self._ai.url_of(provider)
