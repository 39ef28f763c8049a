"""The protocol holds in some hundred seeds; `make soak` runs 10,000 and the mutants."""

from __future__ import annotations

import pytest

from tests.simulation import mutants
from tests.simulation.__main__ import failing, main

SEEDS = 400


def test_no_seed_violates_an_invariant_and_every_shard_is_served_in_the_end() -> None:
    assert failing(range(SEEDS)) is None


@pytest.mark.parametrize("mutant", mutants.listed(), ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_replaces_is_there(mutant: mutants.Mutant) -> None:
    whole = (mutants.ROOT / mutant.file).read_text()
    assert mutants.broken(mutant, whole) is not None


@pytest.mark.soak
def test_ten_thousand_seeds_hold() -> None:
    assert main([]) == 0


@pytest.mark.soak
def test_every_mutant_turns_the_simulator_red() -> None:
    assert mutants.main([]) == 0
