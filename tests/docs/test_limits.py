"""docs/limits.md has every limit, each with a test of what happens beyond it."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.config import LIMITS
from server.settings import PREFIX, Settings
from tests.support.marked import exists

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
MAP = tomllib.loads((ROOT / "tests" / "docs" / "limits.toml").read_text())
LIMIT_NAME = re.compile(r"(MAX_\w+|\w+_(SECONDS|BYTES))")


def rows() -> dict[str, str]:
    """What is limited → the rest of its row."""
    found: dict[str, str] = {}
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith("| What |"):
            what, rest = line[2:].split(" | ", 1)
            assert what not in found, f"{what} is there twice"
            found[what] = rest
    return found


ROWS = rows()


def test_each_row_is_mapped_to_its_test_and_no_other() -> None:
    assert set(MAP["rows"]) == set(ROWS)


@pytest.mark.parametrize("what", ROWS)
def test_each_limit_has_a_test_that_exists_and_its_value_is_the_codes(
    what: str,
) -> None:
    entry, shown = MAP["rows"][what], ROWS[what]
    if "test" in entry:
        assert exists(entry["test"])
    else:
        assert "none" in shown
    for place in entry.get("code", ()):
        module, name = place.split(":")
        assert told(getattr(importlib.import_module(module), name), shown), place


def told(value: float, shown: str) -> bool:
    """Whether a row tells a value, as a number or with a unit."""
    forms = [f"{value:,g}" if value < 1e6 else f"{value:,}", str(value)]
    if value % 2**20 == 0:
        forms.append(f"{value // 2**20:g} MiB")
    return any(re.search(rf"(?<![\d,]){re.escape(f)}(?!\d)", shown) for f in forms)


def constants() -> Iterator[str]:
    """The public constants of the code that have the name of a limit."""
    for top in ("durable", "agents", "server"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "demo" in parts or "starter" in parts:
                continue
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                targets: list[ast.expr] = []
                if isinstance(node, ast.Assign):
                    targets = node.targets
                elif isinstance(node, ast.AnnAssign):
                    targets = [node.target]
                names = [node.id for node in targets if isinstance(node, ast.Name)]
                for name in names:
                    if LIMIT_NAME.fullmatch(name) and not name.startswith("_"):
                        yield f"{'.'.join(parts)}:{name}"


def test_every_constant_that_is_a_limit_is_on_the_page_or_says_why_not() -> None:
    mapped = {
        place for entry in MAP["rows"].values() for place in entry.get("code", ())
    }
    assert set(constants()) == mapped | set(MAP["not_limits"])
    assert not mapped & set(MAP["not_limits"])


@pytest.mark.parametrize("setting", LIMITS)
def test_every_setting_that_is_a_limit_is_in_a_row(setting: str) -> None:
    assert any(f"`{PREFIX}{setting.upper()}`" in shown for shown in ROWS.values())


SETTING_CELL = re.compile(rf"`{PREFIX}([A-Z_]+)`(?: \||,) ([^|]+) \|")


@pytest.mark.parametrize("what", [w for w in ROWS if SETTING_CELL.match(ROWS[w])])
def test_the_default_that_a_row_tells_is_the_settings(what: str) -> None:
    found = SETTING_CELL.match(ROWS[what])
    assert found is not None
    default = getattr(Settings(), found[1].lower())
    assert told(default, found[2]), (what, default)
