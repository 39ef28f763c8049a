"""The object behind a gateway: its log, its cache, its rate limit. One for each id.

It is a durable object as any other, and what it knows is kept by Postgres: every node
and every agent sees the same cache and counts against the same limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from durable import DurableObject, DurableObjectState, now

MAX_LOG_ROWS: Final = 10_000
"""The oldest rows go."""
MAX_CACHED_ANSWERS: Final = 1_000
"""Those that are due first go."""
# So many of what has expired go with one request: no request pays for all.
_SWEEP: Final = 32

PATCHABLE: Final = ("feedback", "score", "metadata")


class AIGateway(DurableObject):
    """Called by ``env.AI`` alone: it has no binding, and no URL leads to it."""

    def __init__(self, ctx: DurableObjectState, env: Any) -> None:
        super().__init__(ctx, env)
        self._counts = {"log": 0, "cached": 0}
        ctx.block_concurrency_while(self._load)

    async def _load(self) -> None:
        self._counts |= await self.ctx.storage.get("counts") or {}

    async def admit(
        self, key: str | None, limit: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What the cache has for a key, ``hit``; else whether a request may be made.

        ``wait``: 0, or the seconds until one may be.
        """
        moment = now().timestamp()
        if key is not None:
            found = await self.ctx.storage.get(f"cached/{key}")
            if found is not None and found["until"] > moment:
                return {"hit": found["answer"], "wait": 0}
        wait = 0.0 if limit is None else await self._count(moment, limit)
        return {"hit": None, "wait": wait}

    async def _count(self, moment: float, limit: Mapping[str, Any]) -> float:
        """Count a request, or the seconds until there is room for it.

        "sliding" weighs the interval before by how much of it still is in the window.
        """
        interval: float = limit["interval"]
        window = int(moment // interval)
        seen = await self.ctx.storage.get("rate") or {}
        counts = {window: 0, window - 1: 0}
        if seen.get("interval") == interval:
            for past, count in seen["counts"]:
                if past in counts:
                    counts[past] = count
        into = moment / interval - window
        used = float(counts[window])
        if limit["technique"] == "sliding":
            used += counts[window - 1] * (1 - into)
        if used + 1 > limit["limit"] + 1e-9:
            return max((1 - into) * interval, 0.001)
        counts[window] += 1
        await self.ctx.storage.put(
            "rate",
            {"interval": interval, "counts": [[w, c] for w, c in counts.items()]},
            # The answer needn't wait for the count of its question.
            allow_unconfirmed=True,
        )
        return 0.0

    async def record(
        self, row: dict[str, Any] | None, fill: dict[str, Any] | None
    ) -> None:
        """Keep a row of the log, and an answer for the cache."""
        if row is not None:
            await self._put("log", f"log/{row['id']}", row, MAX_LOG_ROWS, "log/")
        if fill is not None:
            await self._fill(fill["key"], fill["ttl"], fill["answer"])
        await self.ctx.storage.put("counts", self._counts)

    async def _fill(self, key: str, ttl: float, answer: Any) -> None:
        moment = now().timestamp()
        await self._forget_cached(await self._expired(moment))
        before = await self.ctx.storage.get(f"cached/{key}")
        if before is not None:
            await self._forget_cached([_due(before["until"], key)])
        until = moment + ttl
        await self.ctx.storage.put(f"cached/{key}", {"until": until, "answer": answer})
        await self.ctx.storage.put(_due(until, key), True)
        self._counts["cached"] += 1
        over = self._counts["cached"] - MAX_CACHED_ANSWERS
        if over > 0:
            first = await self.ctx.storage.list(prefix="due/", limit=min(over, _SWEEP))
            await self._forget_cached(list(first))

    async def _expired(self, moment: float) -> list[str]:
        found = await self.ctx.storage.list(
            start="due/", end=_due(moment, ""), limit=_SWEEP
        )
        return list(found)

    async def _forget_cached(self, due: list[str]) -> None:
        for key in due:
            if await self.ctx.storage.delete(key):
                await self.ctx.storage.delete(f"cached/{key.rpartition('/')[2]}")
                self._counts["cached"] -= 1

    async def _put(self, what: str, key: str, row: Any, most: int, prefix: str) -> None:
        await self.ctx.storage.put(key, row)
        self._counts[what] += 1
        over = self._counts[what] - most
        if over > 0:
            oldest = await self.ctx.storage.list(prefix=prefix, limit=min(over, _SWEEP))
            gone = await self.ctx.storage.delete(list(oldest))
            self._counts[what] -= gone

    async def log(self, id: str) -> dict[str, Any] | None:
        """A row of the log."""
        row: dict[str, Any] | None = await self.ctx.storage.get(f"log/{id}")
        return row

    async def logs(self, limit: int, before: str | None) -> list[dict[str, Any]]:
        """Rows of the log, the newest first."""
        rows = await self.ctx.storage.list(
            start="log/",
            end="log0" if before is None else f"log/{before}",
            reverse=True,
            limit=limit,
        )
        return list(rows.values())

    async def patch_log(self, id: str, changes: dict[str, Any]) -> bool:
        """Set feedback, score or metadata of a row; whether there is one."""
        row = await self.log(id)
        if row is None:
            return False
        await self.ctx.storage.put(f"log/{id}", {**row, **changes})
        return True


def _due(until: float, key: str) -> str:
    """A key that sorts by time: milliseconds in 15 digits last until the year 33658."""
    return f"due/{int(until * 1000):015d}/{key}"
