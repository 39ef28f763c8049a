"""The benchmark's verdicts can fail, and its tools say what is wrong."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.benchmarks.generator import (
    DEFAULT_SOURCE,
    GeneratorError,
    Measurement,
    build,
)
from tests.benchmarks.idle import SAMPLE, IdleResult, catches, memory_kb
from tests.benchmarks.processes import (
    ServerProcessError,
    node_environment,
    running,
    start,
)
from tests.benchmarks.targets import (
    OURS,
    TARGETS,
    Runs,
    Series,
    Target,
    judge,
    render,
)

TARGET = Target(
    title="doubled",
    ours="mine",
    reference=Series(system="plain", workload="theirs"),
    ratio=2.0,
)
BARE_SERVER = (sys.executable, "-m", "tests.benchmarks.bare")


def run(system: str, workload: str, rate: float, **values: object) -> Measurement:
    return Measurement(
        system=system, workload=workload, values={"ops_s": rate, **values}
    )


def test_a_row_passes_at_its_ratio_and_fails_below() -> None:
    theirs = run("plain", "theirs", 100)
    assert judge(TARGET, Runs([theirs, run(OURS, "mine", 200)])).passed
    assert not judge(TARGET, Runs([theirs, run(OURS, "mine", 199)])).passed


def test_a_row_fails_when_one_side_was_not_measured() -> None:
    assert not judge(TARGET, Runs([run(OURS, "mine", 200)])).passed
    assert not judge(TARGET, Runs([run("plain", "theirs", 100)])).passed
    assert not judge(TARGET, Runs()).passed


@pytest.mark.parametrize("key", ["errors", "lost", "wrong_state"])
def test_a_wrong_answer_fails_a_fast_row(key: str) -> None:
    runs = Runs(
        [run("plain", "theirs", 100), run(OURS, "mine", 900, **{key: 1})],
    )
    verdict = judge(TARGET, runs)
    assert not verdict.passed
    assert f"{key}=1" in verdict.remark


def test_disturbed_runs_are_left_out_where_there_are_others() -> None:
    runs = Runs(
        [
            run("plain", "theirs", 100),
            run(OURS, "mine", 10, other_cores=0.9),
            run(OURS, "mine", 200, other_cores=0.1),
        ]
    )
    assert judge(TARGET, runs).passed


def test_a_wrong_answer_in_a_disturbed_run_still_fails_the_row() -> None:
    runs = Runs(
        [
            run("plain", "theirs", 100),
            run(OURS, "mine", 200, other_cores=0.9, errors=1),
            run(OURS, "mine", 200),
        ]
    )
    assert not judge(TARGET, runs).passed


def test_the_table_has_a_line_for_each_target() -> None:
    table = render([judge(target, Runs()) for target in TARGETS])
    assert table.count("FAIL") == len(TARGETS) == 9
    assert len({len(line) for line in table.splitlines()}) == 1


GOOD_IDLE = {
    "sockets": 10_000,
    "opened_s": 5.0,
    "kb_per_socket": 30.0,
    "activations": 0,
    "stored": 10_000,
    "answered": SAMPLE,
}


def test_idle_sockets_pass_when_all_conditions_hold() -> None:
    assert IdleResult(**GOOD_IDLE).verdict().passed  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("kb_per_socket", 30.1),
        ("activations", 1),
        ("activations", None),
        ("stored", 9_999),
        ("answered", SAMPLE - 1),
    ],
)
def test_idle_sockets_fail_on_each_condition(condition: str, value: object) -> None:
    result = IdleResult(**{**GOOD_IDLE, condition: value})  # type: ignore[arg-type]
    assert not result.verdict().passed


async def test_a_missing_generator_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="DURABLE_LOAD_DIR"):
        await build(tmp_path / "nowhere", tmp_path)


@pytest.mark.skipif(
    not (DEFAULT_SOURCE / "load.c").is_file(),
    reason="the load generator is not checked out beside the repository",
)
async def test_the_generator_is_built_outside_of_its_source(tmp_path: Path) -> None:
    program = await build(DEFAULT_SOURCE, tmp_path)
    assert program.parent == tmp_path
    assert os.access(program, os.X_OK)


async def test_a_server_that_ends_at_once_is_reported_with_its_stderr(
    tmp_path: Path,
) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such thing')")
    with pytest.raises(ServerProcessError, match="no such thing"):
        await start(command, environment=node_environment(), log=tmp_path / "log")


async def test_a_server_is_up_inside_of_the_block_and_gone_after_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    async with running(BARE_SERVER, environment=node_environment(), log=log) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert memory_kb(server.pid) > 1000
        assert catches(server.pid, signal.SIGTERM)
        assert not catches(server.pid, signal.SIGUSR1)
    assert server.process.returncode == 0


def test_settings_of_the_tester_do_not_reach_a_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DURABLE_LOAD_DIR", "/somewhere")
    environment = node_environment(DURABLE_IDLE_SECONDS="3")
    assert "DURABLE_LOAD_DIR" not in environment
    assert environment["DURABLE_IDLE_SECONDS"] == "3"
