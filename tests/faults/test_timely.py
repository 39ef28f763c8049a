"""Alarms and schedules under faults, a short selection of the campaign."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.faults.timely import Campaign


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(600, 12.0), pytest.param(5000, 100.0, marks=pytest.mark.soak)],
)
async def test_work_begins_never_early_at_least_once_and_not_after_its_cancel(
    database_url: str, tmp_path: Path, count: int, seconds: float
) -> None:
    campaign = Campaign(
        dsn=database_url,
        work=tmp_path,
        seed=time.time_ns() % 10**6,
        count=count,
        seconds=seconds,
        tell=tell,
    )
    await campaign.run()
    assert len(campaign.faults) >= 3, "too few faults to prove anything"
