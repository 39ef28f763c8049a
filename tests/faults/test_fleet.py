"""Several processes, faults and load: every agent's history has one explanation."""

from __future__ import annotations

import os
import time

import pytest

from tests.faults import mutants
from tests.faults.fleet import FAILOVER_TARGET, run
from tests.faults.fleet_clients import Told, check_instances
from tests.faults.fleet_nodes import LEASE
from tests.faults.fleet_report import Report
from tests.simulation.mutants import ROOT, Mutant, broken

# Every kind of fault but the crash of Postgres; that one and more in the soak run.
SHORT = ("kill", "stop", "drain", "kill", "cut")
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
SOAK_SEED = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 10**6)))


def judge(report: Report) -> None:
    assert report.anomalies == []
    assert not report.void
    assert report.increments.acknowledged > 0
    assert report.appends.acknowledged > 0


def test_a_fleet_under_faults_loses_and_doubles_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report(seed=time.time_ns() % 10**6)
    with capsys.disabled():
        run(report, len(SHORT), faults=SHORT)
    judge(report)
    for fault in ("stop", "cut"):
        assert max(report.served_after[fault]) <= LEASE + 2


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS + 300)
def test_a_fleet_under_every_fault_for_long(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(seed=SOAK_SEED)
    with capsys.disabled():
        run(report, 1_000_000, SOAK_SECONDS)
    judge(report)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_after_100_kills_the_next_owner_serves_within_a_second_at_p99(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report(seed=SOAK_SEED)
    with capsys.disabled():
        run(report, 100, faults=("kill",))
    judge(report)
    assert sorted(report.served_after["kill"])[98] <= FAILOVER_TARGET


def test_two_instances_that_speak_in_turns_are_found() -> None:
    fine = [Told(1.0, "a"), Told(2.0, "a"), Told(3.0, "b"), Told(4.0, "b")]
    assert check_instances(fine) == []
    assert check_instances([*fine, Told(3.5, "a")]) != []
    # One that is still in the middle of another, and shorter.
    assert check_instances([*fine, Told(1.5, "c")]) != []


@pytest.mark.parametrize("mutant", mutants.listed(), ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_replaces_is_there(mutant: Mutant) -> None:
    whole = (ROOT / mutant.file).read_text()
    assert broken(mutant, whole) is not None
