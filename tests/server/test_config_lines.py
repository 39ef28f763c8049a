"""The locator against texts with every construct of TOML."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config_lines import Lines, Path

TEXT = '''\
# [no.table]
name = "a # not a comment"  # a comment
"quoted key" = 'x'
dotted . "k.e.y" = 1979-05-27 07:32:00
long = """
[not.a.table]
key = "escaped \\""" still inside
""""
raw = \'\'\'
[[nor.this]]\'\'\'
list = [ # with [brackets] = in a comment
  1, [2, 3],
  "]",

  { from = "A", to = { x = 1 } },
]
empty = []
none = {}

[ limits ]
max_waiting = 1_000

[[durable_objects.bindings]]
name = "A"
[[durable_objects.bindings]]

name = "B"
  [durable_objects.bindings.inner]
  key = true
[[durable_objects.bindings]]
[last]
key = 5'''

WHERE: list[tuple[Path, int]] = [
    (("name",), 2),
    (("quoted key",), 3),
    (("dotted",), 4),
    (("dotted", "k.e.y"), 4),
    (("long",), 5),
    (("raw",), 9),
    (("list",), 11),
    (("list", 0), 12),
    (("list", 1, 1), 12),
    (("list", 2), 13),
    (("list", 3, "from"), 15),
    (("list", 3, "to", "x"), 15),
    (("empty",), 17),
    (("none",), 18),
    (("limits",), 20),
    (("limits", "max_waiting"), 21),
    (("durable_objects", "bindings", 0), 23),
    (("durable_objects", "bindings", 0, "name"), 24),
    (("durable_objects", "bindings", 1), 25),
    (("durable_objects", "bindings", 1, "name"), 27),
    (("durable_objects", "bindings", 1, "inner", "key"), 29),
    (("durable_objects", "bindings", 2), 30),
    (("last", "key"), 32),
]


@pytest.mark.parametrize(("path", "line"), WHERE)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_key_is_found_on_its_line(path: Path, line: int, end: str) -> None:
    text = TEXT.replace("\n", end)
    tomllib.loads(text)  # the test's own text is TOML
    assert Lines(text).of(path) == line


def test_a_missing_key_is_where_its_table_begins() -> None:
    lines = Lines(TEXT)
    assert lines.of(("durable_objects", "bindings", 1, "class_name")) == 25
    assert lines.of(("limits", "nowhere")) == 20
    assert lines.of(("nowhere",)) == 1
    assert Lines("").of(("nowhere",)) == 1


KEYS = st.sampled_from(["a", "b-1", '"c.d"', "'e f'", '"\\u00e9\\""'])
SCALARS = st.sampled_from(
    ["1", "-2.5e3", "true", '"x"', "'#]}'", '"""\n]"x\n"""', "'''''q'''", "07:32:00"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(
            lambda items: "[ # ]\n" + " ,\n".join(items) + "\n]"
        )
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{k} = {v}" for k, v in items.items()) + "}"
        )
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=4))
def test_what_tomllib_reads_is_walked_through_to_its_end(
    pairs: list[tuple[str, str]],
) -> None:
    """Each value stands below a marker key, whose line is known by counting."""
    text = ""
    wanted: dict[Path, int] = {}
    for number, (key, value) in enumerate(pairs):
        text += f"[[t]]\n{key} = {value}\n"
        wanted[("t", number, "marker")] = text.count("\n") + 1
        text += "marker = 1\n"
    values = tomllib.loads(text)
    lines = Lines(text)
    for path, line in wanted.items():
        assert lines.of(path) == line
    for path in paths_of(values):
        assert path in lines.known


def paths_of(value: Any, path: Path = ()) -> list[Path]:
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    else:
        return []
    return [
        found
        for part, inner in parts
        for found in ((*path, part), *paths_of(inner, (*path, part)))
    ]
