"""``kill -9`` of a node at a random moment under load loses and doubles nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.faults.campaign import Campaign, NodeCommand, Report, node_command

ROUNDS = 10
SOAK_ROUNDS = 200
STAND_IN_ROUNDS = 3


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def run(
    node: NodeCommand, dsn: str, work: Path, rounds: int, seed: int
) -> Report:
    """Run a campaign and show its summary, which names the seed."""
    campaign = Campaign(
        node=node, dsn=dsn, work=work, report=Report(seed=seed), tell=tell
    )
    try:
        return await campaign.run(rounds)
    finally:
        tell(f"\n{campaign.report}")


async def test_a_killed_node_loses_no_acknowledged_increment_and_doubles_none(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        report = await run(
            node_command(), database_url, tmp_path, ROUNDS, time.time_ns() % 10**6
        )
    assert report.anomalies == []
    assert not report.void
    assert report.increments.acknowledged > 0


@pytest.mark.soak
async def test_200_kills_lose_no_acknowledged_increment_and_double_none(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        report = await run(
            node_command(), database_url, tmp_path, SOAK_ROUNDS, time.time_ns() % 10**6
        )
    assert report.anomalies == []
    assert not report.void
    assert report.increments.acknowledged > 0
    assert report.increments.unknown_present > 0
    assert report.increments.unknown_absent > 0


def stand_in(fault: str) -> NodeCommand:
    return NodeCommand(
        command=(sys.executable, "-m", "tests.faults.stand_in"),
        variables={"STAND_IN_FAULT": fault},
    )


async def test_a_campaign_accepts_an_honest_server(
    empty_database_url: str, tmp_path: Path
) -> None:
    node = stand_in("none")
    report = await run(node, empty_database_url, tmp_path, STAND_IN_ROUNDS, 1)
    assert report.anomalies == []
    assert report.increments.acknowledged > 0


@pytest.mark.parametrize("fault", ["early", "torn", "double"])
async def test_a_campaign_rejects_a_server_with_a_fault(
    empty_database_url: str, tmp_path: Path, fault: str
) -> None:
    node = stand_in(fault)
    report = await run(node, empty_database_url, tmp_path, STAND_IN_ROUNDS, 1)
    assert report.anomalies
