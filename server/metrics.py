"""What a node counts, in the text format of Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from durable.domain.meter import SECONDS, Distribution

if TYPE_CHECKING:
    from agents.ai import AI
    from server.runtime import Runtime

# How often the event loop is asked whether it is late.
SAMPLE_SECONDS: Final = 0.25


class LoopLag:
    """How late the event loop runs what is due; started once, stopped at the end."""

    def __init__(self) -> None:
        self.lags = Distribution(SECONDS)
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sample from now on."""
        loop = asyncio.get_running_loop()
        due = loop.time() + SAMPLE_SECONDS
        self._handle = loop.call_at(due, self._sample, loop, due)

    def _sample(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.lags.add(max(loop.time() - due, 0.0))
        self.start()

    def stop(self) -> None:
        """Sample no more."""
        if self._handle is not None:
            self._handle.cancel()


class NodeCollector(Collector):
    """Reads a node's counts when it is asked, so that counting costs nothing extra."""

    def __init__(self, runtime: Runtime, lag: LoopLag) -> None:
        self._runtime = runtime
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        yield from self._gauges()
        yield from self._counters()
        for service in self._runtime.env.services.values():
            yield from _of_models(service)
        meter = self._runtime.worker.meter
        yield _histogram(
            "durable_commit_seconds", "Time of a group commit.", meter.commits
        )
        yield _histogram(
            "durable_commit_objects", "Objects in a group commit.", meter.batches
        )
        yield _histogram(
            "durable_gate_wait_seconds",
            "How long output gates held back what objects said.",
            meter.gate_waits,
        )
        yield _histogram(
            "durable_event_loop_lag_seconds",
            "How late the event loop was; sampled.",
            self._lag.lags,
        )

    def _gauges(self) -> Iterable[Metric]:
        counts = self._runtime.counts()
        for name, text, value in (
            ("durable_shards_owned", "Shards served here.", counts["shards"]),
            ("durable_activations", "Objects in memory.", counts["activations"]),
            ("durable_sockets", "Clients' sockets held here.", counts["sockets"]),
            ("durable_links", "Links to other nodes.", counts["links"]),
            (
                "durable_link_queue_bytes",
                "What other nodes haven't taken yet.",
                counts["link_queue"],
            ),
            (
                "durable_cache_bytes",
                "Stored keys and values of objects in memory.",
                counts["cache"],
            ),
            ("durable_ready", "1 if ready.", int(not self._runtime.unready())),
        ):
            yield GaugeMetricFamily(name, text, value=value)

    def _counters(self) -> Iterable[Metric]:
        meter = self._runtime.worker.meter
        links = self._runtime.fleet.mesh.meter
        for name, text, value in (
            ("durable_claims", "Shards claimed.", meter.claims),
            (
                "durable_failovers",
                "Shards claimed from an owner that hadn't given them back.",
                meter.failovers,
            ),
            ("durable_lanes_lost", "Lanes that were lost.", meter.lanes_lost),
            ("durable_link_frames", "Frames sent to other nodes.", links.frames),
            ("durable_link_bytes", "Bytes sent to other nodes.", links.bytes),
        ):
            yield CounterMetricFamily(name, text, value=value)


def _of_models(ai: AI) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "durable_ai_requests", "Requests to models.", labels=("provider", "status")
    )
    for labels, count in ai.requests.items():
        requests.add_metric(labels, count)
    yield requests
    tokens = CounterMetricFamily(
        "durable_ai_tokens", "Tokens of models.", labels=("provider", "direction")
    )
    for labels, count in ai.tokens.items():
        tokens.add_metric(labels, count)
    yield tokens


def _histogram(name: str, text: str, counted: Distribution) -> Metric:
    buckets: list[tuple[str, float]] = []
    total = 0
    bounds = [*(str(float(bound)) for bound in counted.bounds), "+Inf"]
    for bound, count in zip(bounds, counted.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=counted.sum)


def registry_of(runtime: Runtime, lag: LoopLag) -> CollectorRegistry:
    """All that a node shows: its own counts, and its process's memory and files."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(runtime, lag))
    ProcessCollector(registry=registry)
    return registry


__all__ = ["LoopLag", "generate_latest", "registry_of"]
