"""The promises about speed, as ratios, and their verdicts. Pure: numbers in, rows out.

Each row compares our node with a reference that was measured in the same run, on the
same machine and the same Postgres: absolute rates say more about the machine.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.generator import Measurement

OURS = "ours"
PLAIN = "plain"
BARE = "bare"
NOISY = 0.6


# tests.benchmarks.sql: medians, against the same statement on a bare connection.
MAX_SQL_READ_RATIO = 3.5
MAX_SQL_WRITE_RATIO = 2.0
# tests.benchmarks.storage: medians; memory of the largest page against the first.
MAX_CACHED_GET_US = 5.0
MAX_PUT_CPU_US = 30.0
MAX_PAGE_GROWTH = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One workload on one system: what is repeated and summed up by a median."""

    system: str
    workload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``ours`` must reach ``ratio`` times the rate of ``reference``."""

    title: str
    ours: str
    reference: Series
    ratio: float


PLAIN_MANY = Series(system=PLAIN, workload="http_incr_many")
PLAIN_ONE = Series(system=PLAIN, workload="http_incr_one")
BARE_HTTP = Series(system=BARE, workload="http_get")
BARE_ECHO = Series(system=BARE, workload="ws_echo")

TARGETS = (
    Target(
        title="increments over HTTP, 1,000 agents",
        ours="http_incr_many",
        reference=PLAIN_MANY,
        ratio=2.0,
    ),
    Target(
        title="increments over HTTP, one agent",
        ours="http_incr_one",
        reference=PLAIN_ONE,
        ratio=4.0,
    ),
    Target(
        title="increments by RPC, one call each",
        ours="ws_rpc_incr",
        reference=PLAIN_MANY,
        ratio=2.5,
    ),
    Target(
        title="increments by RPC, 16 in flight",
        ours="ws_rpc_incr_p16",
        reference=PLAIN_MANY,
        ratio=4.0,
    ),
    Target(title="read over HTTP", ours="http_get", reference=BARE_HTTP, ratio=0.5),
    Target(
        title="read by RPC over WebSocket",
        ours="ws_rpc_read",
        reference=BARE_ECHO,
        ratio=0.35,
    ),
    Target(
        title="state broadcast to 100 sockets, deliveries",
        ours="fanout",
        reference=BARE_ECHO,
        ratio=0.8,
    ),
    Target(
        title="first request to a new agent",
        ours="cold_new",
        reference=PLAIN_MANY,
        ratio=0.45,
    ),
    Target(
        title="first request to a sleeping agent",
        ours="cold_existing",
        reference=PLAIN_MANY,
        ratio=0.45,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the table."""

    title: str
    ours: str
    reference: str
    result: str
    target: str
    passed: bool
    remark: str = ""

    def cells(self) -> tuple[str, ...]:
        """The line, as text."""
        word = "pass" if self.passed else "FAIL"
        return (
            self.title,
            self.ours,
            self.reference,
            self.result,
            self.target,
            word,
            self.remark,
        )


HEAD = ("workload", "ours", "reference", "result", "target", "", "remarks")


class Runs:
    """All measurements of one benchmark run, by series."""

    def __init__(self, measurements: Iterable[Measurement] = ()) -> None:
        """Start from ``measurements``; more are added as they are made."""
        self._all: list[Measurement] = list(measurements)

    def add(self, measurement: Measurement) -> None:
        """Keep one more."""
        self._all.append(measurement)

    def of(self, series: Series) -> list[Measurement]:
        """Runs of one series, without those that strangers' CPU use disturbed.

        Where no run was undisturbed, all of them.
        """
        runs = [
            m
            for m in self._all
            if m.system == series.system and m.workload == series.workload
        ]
        return [m for m in runs if m.other_cores <= NOISY] or runs

    def rate(self, series: Series) -> float | None:
        """The median rate of a series; ``None`` if it was not measured."""
        runs = self.of(series)
        return statistics.median(m.rate for m in runs) if runs else None

    def median(self, series: Series, key: str) -> float | None:
        """The median of one of the generator's numbers."""
        values = [m.values[key] for m in self.of(series) if key in m.values]
        return statistics.median(values) if values else None

    def flaws(self, series: Series) -> list[str]:
        """Wrong answers in any run of a series, disturbed or not."""
        return [
            f"{m.workload} on {m.system}: {m.flaw}"
            for m in self._all
            if m.system == series.system and m.workload == series.workload and m.flaw
        ]

    def as_json(self) -> list[dict[str, Any]]:
        """Every run, as the generator gave it."""
        return [{"system": m.system, **m.values} for m in self._all]


def judge(target: Target, runs: Runs) -> Verdict:
    """Compare the medians of one row; a wrong answer on either side fails it."""
    ours = Series(system=OURS, workload=target.ours)
    our_rate, reference_rate = runs.rate(ours), runs.rate(target.reference)
    flaws = runs.flaws(ours) + runs.flaws(target.reference)
    measured = our_rate is not None and bool(reference_rate)
    ratio = our_rate / reference_rate if our_rate and reference_rate else 0.0
    remarks = [*flaws[:1], _latency(runs, ours)] if measured else ["not measured"]
    if any(m.other_cores > NOISY for m in runs.of(ours) + runs.of(target.reference)):
        remarks.append("disturbed by other processes")
    return Verdict(
        title=target.title,
        ours=f"{our_rate or 0:,.0f}/s",
        reference=f"{target.reference.system} {target.reference.workload} "
        f"{reference_rate or 0:,.0f}/s",
        result=f"{math.floor(ratio * 100) / 100:.2f} x",  # 1.999 is no 2.00
        target=f">= {target.ratio:g} x",
        passed=measured and not flaws and ratio >= target.ratio,
        remark=", ".join(remark for remark in remarks if remark),
    )


def _latency(runs: Runs, series: Series) -> str:
    p50, p99 = runs.median(series, "p50_ms"), runs.median(series, "p99_ms")
    cpu = runs.median(series, "srv_cpu_us_op")
    if p50 is None or p99 is None:
        return ""
    return f"p50 {p50:.1f} p99 {p99:.1f} ms, {cpu or 0:.0f} us CPU/op"


def render(verdicts: Sequence[Verdict]) -> str:
    """The table as aligned Markdown."""
    lines = [HEAD, *(verdict.cells() for verdict in verdicts)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    rows = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rows.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(rows)
