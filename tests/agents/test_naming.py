"""The table was printed by `camelCaseToKebabCase` of npm `agents` 0.32.0."""

from __future__ import annotations

import pkgutil

import pytest

import agents
from agents.naming import kebab_case

CAMEL_CASE = [
    ("Counter", "counter"),
    ("MyAgent", "my-agent"),
    ("myAgent", "my-agent"),
    ("AIChat", "a-i-chat"),
    ("MyAPI", "my-a-p-i"),
    ("A.B", "a.b"),
    ("Agent v2", "agent v2"),
]
ALL_UPPER = [
    ("A", "a"),
    ("AB", "ab"),
    ("A1", "a1"),
    ("1A", "1a"),
    ("MY_AGENT", "my-agent"),
    ("MY-AGENT", "my-agent"),
    ("A_", "a-"),
    ("_A", "-a"),
    ("AB_", "ab-"),
    ("AB-", "ab-"),
]
KEBAB_ALREADY = [
    ("my-agent", "my-agent"),
    ("counter", "counter"),
    ("a", "a"),
    ("-ab", "ab"),
]
UNDERSCORES = [
    ("my_agent", "my-agent"),
    ("My_Agent", "my--agent"),
    ("X_Y_z", "x--y-z"),
    ("ABc_", "a-bc"),
    ("Ab_", "ab"),
    ("Ab__", "ab-"),
    ("ab__", "ab-"),
    ("_Ab", "--ab"),
    ("_1", "-1"),
    ("1_", "1"),
]
DASHES = [
    ("-Ab", "-ab"),
    ("--Ab", "--ab"),
    ("Ab-", "ab"),
]
DIGITS_ARE_NO_BOUNDARIES = [
    ("123", "123"),
    ("a1B", "a1-b"),
    ("Counter2", "counter2"),
    ("Room2D", "room2-d"),
    ("٣", "٣"),
]
NO_LETTERS = [
    ("", ""),
    ("-", ""),
    ("_", ""),
    ("__", "-"),
]
BEYOND_ASCII = [
    ("Émile", "Émile"),
    ("ÉMILE", "émile"),
    ("éA", "é-a"),
    ("ÀB", "àb"),
    ("ß", "ß"),
    ("ẞ", "ß"),
    ("ßA", "ß-a"),
    ("İA", "i̇a"),
    ("İAb", "İ-ab"),
    ("Ǆx", "Ǆx"),
    ("中文", "中文"),
    ("中A", "中a"),
    ("中Ab", "中-ab"),
    ("AﬁA", "aﬁ-a"),
    ("ŉA", "ŉ-a"),
]


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        *CAMEL_CASE,
        *ALL_UPPER,
        *KEBAB_ALREADY,
        *UNDERSCORES,
        *DASHES,
        *DIGITS_ARE_NO_BOUNDARIES,
        *NO_LETTERS,
        *BEYOND_ASCII,
    ],
)
def test_kebab_case_agrees_with_the_npm_client(name: str, segment: str) -> None:
    assert kebab_case(name) == segment


@pytest.mark.parametrize("name", ["Counter", "MyAgent", "AIChat", "MY_AGENT", "Room2D"])
def test_kebab_case_leaves_its_own_result_alone(name: str) -> None:
    assert kebab_case(kebab_case(name)) == kebab_case(name)


def test_no_module_is_called_as_a_public_name_that_it_would_hide() -> None:
    """Names of the package come when they are asked for; a module's would be there."""
    modules = {module.name for module in pkgutil.iter_modules(agents.__path__)}
    assert modules.isdisjoint(agents.__all__)
