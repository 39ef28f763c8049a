"""Every rule of the wire has a test, and every test names rules that exist."""

from __future__ import annotations

from tests.wire.mutants import listed, proving
from tests.wire.process import ROOT
from tests.wire.rules import proofs, statements


def test_every_rule_has_a_test() -> None:
    proved = {rule for proof in proofs() for rule in proof.rules}
    assert sorted(set(statements()) - proved) == []


def test_every_test_names_rules_that_exist() -> None:
    known = statements()
    unknown = [
        (proof.test, rule)
        for proof in proofs()
        for rule in proof.rules
        if rule not in known
    ]
    assert unknown == []


def test_no_two_tests_have_one_id() -> None:
    ids = [proof.test for proof in proofs()]
    assert sorted(ids) == sorted(set(ids))


def test_at_least_twenty_mutants_still_apply() -> None:
    mutants = listed()
    stale = [
        mutant.name
        for mutant in mutants
        if (ROOT / mutant.file).read_text().count(mutant.old) != 1
        or not proving(mutant.rules)
    ]
    assert stale == []
    assert len(mutants) >= 20
