"""The life of an activation, as a table. All transitions are here."""

from __future__ import annotations

from enum import Enum


class ActivationState(Enum):
    """Where an activation is in its one life."""

    ACTIVATING = "activating"
    ACTIVE = "active"
    GONE = "gone"


_ALLOWED = {
    ActivationState.ACTIVATING: {ActivationState.ACTIVE, ActivationState.GONE},
    ActivationState.ACTIVE: {ActivationState.GONE},
    ActivationState.GONE: set(),
}


def step(now: ActivationState, to: ActivationState) -> ActivationState:
    """Go on to the next state.

    Raises:
        ValueError: there is no such step.
    """
    if to not in _ALLOWED[now]:
        raise ValueError(f"an activation that is {now.value} can't become {to.value}")
    return to
