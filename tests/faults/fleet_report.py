"""What a campaign on a fleet found."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.history import Tally
from tests.faults.strikes import Strike


@dataclass(slots=True)
class Report:
    """What a campaign found."""

    seed: int
    strikes: list[Strike] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)
    served_after: dict[str, list[float]] = field(default_factory=dict)
    increments: Tally = field(default_factory=Tally)
    appends: Tally = field(default_factory=Tally)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def void(self) -> bool:
        """Too few kills hit a commit in flight: the campaign proves nothing."""
        return sum(s.commits_in_flight > 0 for s in self.strikes) * 2 < len(
            self.strikes
        )

    def __str__(self) -> str:
        """What a campaign prints."""
        hits = sum(s.commits_in_flight > 0 for s in self.strikes)
        lines = [
            f"seed {self.seed}: {len(self.strikes)} kills, {hits} with a commit in "
            "flight" + ("; VOID" if self.void else ""),
            f"increments: {self.increments}",
            f"appends:    {self.appends}",
            f"failures that clients saw: {self.failures}",
        ]
        for fault, seconds in self.served_after.items():
            ordered = sorted(seconds)
            p99 = ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]
            lines.append(
                f"{fault:8} x {len(ordered)}: served again after "
                f"{ordered[len(ordered) // 2]:.2f} s (median), {p99:.2f} s (p99)"
            )
        return "\n".join([*lines, *(f"ANOMALY {a}" for a in self.anomalies[:20])])
