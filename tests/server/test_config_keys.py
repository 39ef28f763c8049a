"""Each key of durable.toml: a good value, a missing one, bad ones with their place.

The table is complete: a key that the reader knows and the table doesn't is a failure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from server.config import LIMITS, load_project
from server.config_migrations import Rename, Transfer
from server.config_project import Binding, Project
from server.config_reader import ConfigError, Table
from server.settings import Settings

BINDING = '[[durable_objects.bindings]]\nname = "A"\nclass_name = "B"\n'
MIGRATION = '[[migrations]]\ntag = "1"\n'
RENAME = f'{MIGRATION}renamed_classes = [\n{{ from = "A", to = "B" }}]'
TRANSFER = (
    f"{MIGRATION}transferred_classes = [\n"
    '{ from = "A", from_script = "x", to = "B" }]'
)
TEXT = "must be a text that is not empty, not"


@dataclass(frozen=True, kw_only=True)
class Key:
    """``bad``: file → what is said, after its name and line."""

    key: str
    good: str
    read: Callable[[Project], Any]
    value: Any
    missing: Any = None
    without: tuple[str, str] | None = None
    bad: Mapping[str, str]


def _first_migration(name: str) -> Callable[[Project], Any]:
    return lambda p: getattr(p.migrations[0], name) if p.migrations else ()


def _setting(name: str) -> Callable[[Project], Any]:
    """What the process gets: the file's value, or the default."""
    return lambda p: getattr(Settings.from_environment({}, project=p), name)


def _configured(name: str) -> Callable[[Project], Any]:
    """What the file itself says."""
    return lambda p: p.settings[name].value if p.settings else None


def _classes(key: str, *, read: str | None = None) -> Key:
    of = f"migrations[0].{key}"
    return Key(
        key=f"migrations[].{key}",
        good=f'{MIGRATION}{key} = ["A", "B"]',
        read=_first_migration(read or key),
        value=("A", "B"),
        missing=(),
        bad={
            f"{MIGRATION}{key} = 1": f"3: {of}: must be a list of texts, not a number",
            f"{MIGRATION}{key} = [\n'A-B']": f"4: {of}[0]: 'A-B' is no Python name",
            f"{MIGRATION}{key} = ['A', 'A']": f"3: {of}[1]: 'A' is in the list twice",
        },
    )


def _part(whole: str, table: str, key: str, old: str, value: Any) -> Key:
    """A required key of an inline table."""
    of = f"migrations[0].{table}[0]"
    name = {"from": "from_"}.get(key, key)
    return Key(
        key=f"migrations[].{table}[].{key}",
        good=whole,
        read=lambda p: [getattr(entry, name) for entry in _first_migration(table)(p)],
        value=[value],
        missing=[],
        without=(whole.replace(old, "", 1), f"4: {of}.{key}: is missing"),
        bad={
            whole.replace(old, old.replace(f'"{value}"', "5"), 1): f"4: {of}.{key}: "
            f"{TEXT} a number",
        },
    )


KEYS = [
    Key(
        key="name",
        good='name = "my-app"',
        read=lambda p: p.name,
        value="my-app",
        bad={
            "\nname = 5": f"2: name: {TEXT} a number",
            'name = " "': f"1: name: {TEXT} an empty one",
            'name = "a b"': "1: name: 'a b' is no name for an app",
        },
    ),
    Key(
        key="main",
        good='main = "a:fetch"',
        read=lambda p: p.main and p.main.value,
        value="a:fetch",
        bad={"\n\nmain = []": f"3: main: {TEXT} a list"},
    ),
    Key(
        key="durable_objects",
        good=BINDING,
        read=lambda p: len(p.bindings),
        value=1,
        missing=0,
        bad={"durable_objects = 1": "1: durable_objects: must be a table"},
    ),
    Key(
        key="durable_objects.bindings",
        good=BINDING,
        read=lambda p: p.bindings,
        value=(Binding("A", "B"),),
        missing=(),
        bad={
            "[durable_objects]\nbindings = 1": "2: durable_objects.bindings: must be a "
            "list of tables, not a number",
            "[durable_objects]\nbindings = [\n'A']": "3: durable_objects.bindings[0]: "
            "must be a table",
        },
    ),
    Key(
        key="durable_objects.bindings[].name",
        good=BINDING,
        read=lambda p: [binding.name for binding in p.bindings],
        value=["A"],
        missing=[],
        without=(
            BINDING.replace('name = "A"\n', "", 1),
            "1: durable_objects.bindings[0].name: is missing",
        ),
        bad={
            BINDING.replace('"A"', "true"): "2: durable_objects.bindings[0].name: "
            f"{TEXT} true or false",
            BINDING.replace('"A"', '"A-B"'): "2: durable_objects.bindings[0].name: "
            "'A-B' must be a Python name",
            BINDING.replace('"A"', '"cache"'): "2: durable_objects.bindings[0].name: "
            "'cache' is a name that env has",
            BINDING * 2: "5: durable_objects.bindings[1].name: A is bound twice",
        },
    ),
    Key(
        key="durable_objects.bindings[].class_name",
        good=BINDING,
        read=lambda p: [binding.class_name for binding in p.bindings],
        value=["B"],
        missing=[],
        without=(
            BINDING.replace('class_name = "B"', ""),
            "1: durable_objects.bindings[0].class_name: is missing",
        ),
        bad={
            BINDING.replace('"B"', '"m.B"'): "3: durable_objects.bindings[0]."
            "class_name: 'm.B' is no Python name",
        },
    ),
    Key(
        key="durable_objects.bindings[].script_name",
        good=f'name = "mine"\n{BINDING}script_name = "theirs"',
        read=lambda p: [binding.script_name for binding in p.bindings],
        value=["theirs"],
        missing=[],
        bad={
            f"{BINDING}script_name = 1": "4: durable_objects.bindings[0].script_name: "
            f"{TEXT} a number",
        },
    ),
    Key(
        key="migrations",
        good='[[migrations]]\ntag = "1"\n[[migrations]]\ntag = "2"',
        read=lambda p: [migration.tag for migration in p.migrations],
        value=["1", "2"],
        missing=[],
        bad={"migrations = 1": "1: migrations: must be a list of tables"},
    ),
    Key(
        key="migrations[].tag",
        good=MIGRATION,
        read=lambda p: [migration.tag for migration in p.migrations],
        value=["1"],
        missing=[],
        without=("[[migrations]]", "1: migrations[0].tag: is missing"),
        bad={
            "[[migrations]]\ntag = 1": f"2: migrations[0].tag: {TEXT} a number",
            MIGRATION * 2: "4: migrations[1].tag: '1' is the tag of an earlier",
        },
    ),
    _classes("new_classes"),
    _classes("new_sqlite_classes", read="new_classes"),
    _classes("deleted_classes"),
    Key(
        key="migrations[].renamed_classes",
        good=RENAME,
        read=_first_migration("renamed_classes"),
        value=(Rename(from_="A", to="B"),),
        missing=(),
        bad={
            f"{MIGRATION}renamed_classes = ['A']": "3: migrations[0].renamed_classes"
            "[0]: must be a table",
        },
    ),
    _part(RENAME, "renamed_classes", "from", 'from = "A", ', "A"),
    _part(RENAME, "renamed_classes", "to", ', to = "B"', "B"),
    Key(
        key="migrations[].transferred_classes",
        good=TRANSFER,
        read=_first_migration("transferred_classes"),
        value=(Transfer(from_="A", from_script="x", to="B"),),
        missing=(),
        bad={
            f"{MIGRATION}transferred_classes = 1": "3: migrations[0]."
            "transferred_classes: must be a list of tables",
        },
    ),
    _part(TRANSFER, "transferred_classes", "from", 'from = "A", ', "A"),
    _part(TRANSFER, "transferred_classes", "from_script", 'from_script = "x", ', "x"),
    _part(TRANSFER, "transferred_classes", "to", ', to = "B"', "B"),
    Key(
        key="vars",
        good="[vars]\nA = 1",
        read=lambda p: dict(p.vars),
        value={"A": 1},
        missing={},
        bad={
            "\nvars = 1": "2: vars: must be a table",
            "[vars]\n\nA-B = 1": "3: vars.A-B: must be a Python name",
            f"{BINDING}[vars]\nA = 1": "5: vars.A: is the name of a binding too",
        },
    ),
    Key(
        key="limits",
        good="[limits]\nmax_waiting = 7",
        read=_setting("max_waiting"),
        value=7,
        missing=Settings().max_waiting,
        bad={"limits = 1": "1: limits: must be a table"},
    ),
    Key(
        key="placement",
        good="[placement]\nweight = 7",
        read=_setting("weight"),
        value=7.0,
        missing=1.0,
        bad={"placement = 1": "1: placement: must be a table"},
    ),
    Key(
        key="placement.labels",
        good='[placement]\nlabels = ["weur", "ssd-2"]',
        read=_setting("labels"),
        value=("weur", "ssd-2"),
        missing=(),
        bad={
            "[placement]\nlabels = 1": "2: placement.labels: must be a list of texts",
            "[placement]\nlabels = [\n'a',\n1]": "4: placement.labels[1]: must be a",
            "[placement]\nlabels = ['a', 'a']": "2: placement.labels[1]: 'a' is in the "
            "list twice",
            "[placement]\nlabels = ['a b']": "2: placement.labels: ['a b'] is not "
            "usable; it must be up to 16 different labels of small letters",
        },
    ),
    Key(
        key="placement.weight",
        good="[placement]\nweight = 2.5",
        read=_setting("weight"),
        value=2.5,
        missing=1,
        bad={
            f"[placement]\nweight = {bad}": f"2: placement.weight: {shown} is not "
            "usable; it must be a number from 0.01 to 100"
            for bad, shown in (
                *(("0", "0"), ("101", "101"), ("nan", "nan")),
                *(("'2'", "'2'"), ("true", "true or false")),
            )
        },
    ),
    Key(
        key="observability",
        good='[observability]\nlog_level = "debug"',
        read=_setting("log_level"),
        value="debug",
        missing="info",
        bad={"observability = 1": "1: observability: must be a table"},
    ),
    Key(
        key="observability.log_level",
        good='[observability]\nlog_level = "error"',
        read=_setting("log_level"),
        value="error",
        missing="info",
        bad={
            "[observability]\nlog_level = 'loud'": "2: observability.log_level: 'loud' "
            "is not usable; it must be one of debug",
        },
    ),
    Key(
        key="observability.show_errors",
        good="[observability]\nshow_errors = true",
        read=_setting("show_errors"),
        value=True,
        missing=False,
        bad={
            "[observability]\nshow_errors = 'yes'": "2: observability.show_errors: "
            "'yes' is not usable; it must be on or off",
        },
    ),
]


def _limits() -> Iterator[Key]:
    """``[limits]`` has the numbers among the settings: each by its default."""
    for name in LIMITS:
        default = getattr(Settings(), name)
        yield Key(
            key=f"limits.{name}",
            good=f"[limits]\n{name} = {default}",
            read=_configured(name),
            value=default,
            bad={
                f"[limits]\n{name} = {bad}": f"2: limits.{name}: {shown} is not "
                "usable; it must be "
                for bad, shown in (
                    *(("-1", "-1"), ("'x'", "'x'"), ("true", "true or false")),
                    *(("[1]", "a list"), ("nan", "nan")),
                )
            },
        )


TABLE = [*KEYS, *_limits()]


def load(directory: Path, text: str) -> Project:
    (directory / "durable.toml").write_text(text)
    return load_project(directory)


@pytest.mark.parametrize("key", TABLE, ids=lambda key: key.key)
def test_a_good_value_is_taken_a_missing_one_has_its_default_a_bad_one_its_place(
    tmp_path: Path, key: Key
) -> None:
    value = key.read(load(tmp_path, key.good))
    assert value == key.value
    assert type(value) is type(key.value)
    assert key.read(load(tmp_path, "# empty")) == key.missing
    (tmp_path / "durable.toml").unlink()
    assert key.read(load_project(tmp_path)) == key.missing
    assert key.bad
    for text, said in refusals(key):
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, text)
        shown = str(caught.value)
        assert shown.startswith(f"durable.toml:{said}"), (text, shown)


def refusals(key: Key) -> Iterator[tuple[str, str]]:
    """Files that are refused, and how: line, key and why."""
    yield from key.bad.items()
    if key.without is not None:
        yield key.without


def test_every_key_that_the_reader_knows_is_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: set[str] = set()
    real = Table.only

    def only(table: Table, keys: Any, hints: Any = None) -> None:
        path = re.sub(r"\.?\[\d+\]", "[]", _dotted(table.path))
        known.update(f"{path}.{key}" if path else key for key in keys)
        real(table, keys, hints)

    monkeypatch.setattr(Table, "only", only)
    for key in TABLE:
        load(tmp_path, key.good)
    assert known == {key.key for key in TABLE}


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(f"[{part}]" if isinstance(part, int) else part for part in path)
