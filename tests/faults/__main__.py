"""The long run: ``python -m tests.faults --rounds 200 --seed S``.

Starts a Postgres of its own, kills a node over and over and prints what became of the
clients' operations. Ends with 1 after an anomaly or a failure of a living node, with 3
if the run was void.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from server.embedded_postgres import embedded_postgres
from server.migrate import migrate
from tests.faults.campaign import Campaign, CampaignError, Report, node_command

SHARDS = 1024


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    return parser.parse_args()


def tell(text: str) -> None:
    """Show progress."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def run(rounds: int, report: Report, work: Path) -> None:
    """One campaign on a Postgres of its own."""
    async with embedded_postgres(work / ".durable") as dsn:
        await asyncio.to_thread(migrate, dsn, SHARDS)
        campaign = Campaign(
            node=node_command(), dsn=dsn, work=work, report=report, tell=tell
        )
        await campaign.run(rounds)


def main() -> int:
    """Run and judge."""
    chosen = options()
    report = Report(seed=chosen.seed)
    with tempfile.TemporaryDirectory(prefix="durable-faults-") as directory:
        work = Path(directory)
        work.chmod(0o755)  # Postgres runs as an ordinary user also when we are root
        try:
            asyncio.run(run(chosen.rounds, report, work))
        except CampaignError as error:
            tell(f"{report}\n{error}")
            return 1
    tell(str(report))
    if report.anomalies:
        return 1
    return 3 if report.void else 0


if __name__ == "__main__":
    raise SystemExit(main())
