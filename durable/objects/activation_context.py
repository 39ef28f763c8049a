"""What every activation of a worker is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durable.domain.meter import Meter

if TYPE_CHECKING:
    from durable.domain.ports import Reader, SqlRunner, Trials
    from durable.objects.activation import Activation
    from durable.objects.cache_budget import CacheBudget
    from durable.objects.websocket import SocketTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationContext:
    """Bindings, the ways to Postgres, the sockets; ``start_timeout`` in seconds."""

    env: Any
    reader: Reader
    sql: SqlRunner
    sockets: SocketTable
    trials: Trials
    start_timeout: float
    on_gone: Callable[[Activation], None]
    budget: CacheBudget
    max_value_bytes: int
    meter: Meter = field(default_factory=Meter)
