"""Every rule is proven or differs on purpose, and docs/semantics.md says which."""

from __future__ import annotations

import ast
import re

from durable import (
    DurableObjectId,
    DurableObjectNamespace,
    DurableObjectState,
    DurableObjectStorage,
    Response,
    WebSocket,
)
from tests.parity.rules import HERE, PAGE, page, sections
from tests.support.marked import exists, python_proofs

RULES = {rule.id: rule for section in sections() for rule in section.rules}


def test_every_rule_has_a_test_or_a_reason_to_differ() -> None:
    bare = [rule.id for rule in RULES.values() if not (rule.tests or rule.difference)]
    assert bare == []


def test_every_named_test_exists() -> None:
    tests = {test for rule in RULES.values() for test in rule.tests}
    assert sorted(test for test in tests if not exists(test)) == []


def test_every_test_here_names_rules_and_they_exist() -> None:
    for proof in python_proofs(HERE):
        if "test_rules_covered.py" not in proof.test:
            assert proof.rules, f"{proof.test} names no rule"
            assert set(proof.rules) <= set(RULES), proof.test


def test_the_tests_use_nothing_but_the_public_face() -> None:
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                ours = node.module.split(".")
                if ours[0] in {"durable", "server", "agents"}:
                    assert node.module in {"durable", "durable.testing"}, path.name


def test_the_page_says_what_the_rules_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run python -m tests.parity"


# Set in the constructor of ``ctx``: no attributes of its class.
ATTRIBUTES = {("ctx", name) for name in ("id", "storage", "props")}
FACES = {
    "ns": DurableObjectNamespace,
    "id": DurableObjectId,
    "ctx": DurableObjectState,
    "storage": DurableObjectStorage,
    "ws": WebSocket,
    "Response": Response,
}


def test_the_names_that_the_page_gives_are_there() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Names")[2].partition("##")[0]
    ours = " ".join(row.split(" | ")[1] for row in table.splitlines() if " | " in row)
    named = re.findall(r"\b(\w+)\.(\w+)", ours)
    assert {face for face, _ in named} >= set(FACES)
    for face, name in named:
        if face in FACES and (face, name) not in ATTRIBUTES:
            assert hasattr(FACES[face], name), f"{face}.{name}"
