"""The stock npm clients against our server: one test for each check of the drivers."""

from __future__ import annotations

import pytest

from tests.wire.process import Driver
from tests.wire.rules import DRIVERS, npm_checks, npm_id

CHECKS = [
    pytest.param(driver, name, marks=pytest.mark.rule(*rules), id=npm_id(driver, name))
    for driver in DRIVERS
    for name, rules in npm_checks(driver)
]


@pytest.mark.parametrize(("driver", "check"), CHECKS)
def test_npm_client(drivers: dict[str, Driver], driver: str, check: str) -> None:
    result = drivers[driver].result(check)
    assert result["ok"], result["detail"]
