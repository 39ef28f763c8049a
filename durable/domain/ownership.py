"""Which shards a node claims, serves, suspends and gives away: decisions, no I/O.

Promise: a shard is served only after its claim is committed, and, if its owner didn't
release it, W after the lock was obtained; it is released, and then unlocked, only after
its activations have ended and flushed. When the lane is lost everything is suspended:
it goes on if the next claim finds one's own claim id, so that nobody was in between,
and is reset otherwise.

``step`` takes the time and an event and returns effects; ``wake_at`` is when it wants a
Tick. Results of a lane that is lost must not be fed in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from durable.domain import ownership_pace as pace
from durable.domain import ownership_steps as steps
from durable.domain.free_shards import FreeShards
from durable.domain.ownership_steps import Effect, Event, Phase
from durable.domain.placement import Placement, WorkerRow
from durable.domain.writes import Claim

_NEVER = float("inf")


_GOING = (Phase.ENDING, Phase.ENDED, Phase.RELEASING)
_COMING = (Phase.LOCKING, Phase.CLAIMING, Phase.WAITING, Phase.PREPARING)


class Ownership:
    """The shards of one node on one lane; durations in seconds."""

    def __init__(
        self,
        row: WorkerRow,
        shards: int,
        *,
        lease: float,
        freshness: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._row = row
        self._me = row.id
        self._count = shards
        self._lease = lease
        self._freshness = freshness
        self._draw = draw
        self._now = 0.0
        self._effects: list[Effect] = []
        self._phase: dict[int, Phase] = {}
        # The same by phase, in the order in which shards came to it.
        self._in: dict[Phase, dict[int, None]] = {phase: {} for phase in Phase}
        self._claims: dict[int, Claim] = {}
        # When each lock was obtained; when what waits for W may be prepared.
        self._locked_at: dict[int, float] = {}
        self._waiting: dict[int, float] = {}
        self._suspended: dict[int, Claim] = {}
        self._suspended_until = _NEVER
        self._resumed: list[Claim] | None = None
        self._placement = Placement.of(shards, [row])
        self._placed_at = -_NEVER
        self._free = FreeShards(row.id)
        # Shards that we took although another is preferred: not given back before.
        self._kept_until: dict[int, float] = {}
        self._next_hand_over = -_NEVER
        self._lane_open = self._opening = False
        self._reopen_at = -_NEVER
        self._looking = self._has_looked = self._more = False
        self._hurried = 0
        self._look_at = -_NEVER
        self._draining = self._drained = False
        self.wake_at = _NEVER
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            steps.LaneOpened: self._lane_opened,
            steps.LaneFailed: self._lane_failed,
            steps.LaneLost: self._lane_lost,
            steps.Looked: self._looked,
            steps.Locked: self._locked,
            steps.Claimed: self._claimed,
            steps.Prepared: self._prepared,
            steps.Ended: self._ended,
            steps.Released: self._released,
            steps.DrainAsked: self._drain_asked,
            steps.Woken: self._woken,
            steps.Tick: lambda _: None,
        }

    @property
    def settled(self) -> bool:
        """Whether all that could be had at the first look is served."""
        return (
            (self._has_looked or self._row.role == "front")
            and not self._more
            and not self._suspended
            and not any(self._in[phase] for phase in _COMING)
        )

    def step(self, now: float, event: Event) -> list[Effect]:
        """What is to be done about an event."""
        self._now = now
        self._handlers[type(event)](event)
        self._on_time()
        self._set_wake()
        effects, self._effects = self._effects, []
        return effects

    # --- the lane

    def _lane_opened(self, _: steps.LaneOpened) -> None:
        self._lane_open, self._opening = True, False
        self._look_at = self._now
        self._resumed = []
        if self._suspended:
            self._lock(sorted(self._suspended))

    def _lane_failed(self, _: steps.LaneFailed) -> None:
        self._opening = False
        self._reopen_at = self._now + pace.REOPEN_SECONDS * (0.5 + self._draw())

    def _lane_lost(self, _: steps.LaneLost) -> None:
        served, ending = self._with(Phase.SERVED), self._with(*_GOING)
        self._phase.clear()
        self._claims.clear()
        self._locked_at.clear()
        self._waiting.clear()
        self._free.forget()
        for shards in self._in.values():
            shards.clear()
        self._lane_open = False
        self._reopen_at = self._now
        if self._draining:
            ending, served = ending + served, []
        if ending:
            self._effects.append(steps.Reset(ending))
        if served:
            self._suspended.update((claim.shard, claim) for claim in served)
            self._suspended_until = self._now + self._lease
            self._effects.append(steps.Suspend(served))

    # --- looking

    def _woken(self, event: steps.Woken) -> None:
        self._look_at = self._now
        self._hurried = pace.HURRIED_LOOKS
        if event.lost is not None:
            self._free.note_lost(event.lost, self._now, self._lease)

    def _looked(self, event: steps.Looked) -> None:
        self._looking = False
        if self._look_at > self._now or event.live is None:  # Not woken meanwhile.
            hurries = self._hurried > 0 and not event.free
            self._hurried -= hurries
            seconds = pace.HURRY_SECONDS if hurries else pace.LOOK_SECONDS
            self._look_at = self._now + seconds * (0.5 + self._draw())
        if event.live is None or self._draining or not self._lane_open:
            return
        self._has_looked = True
        self._place(event.live)
        self._plan_claims(event.free)
        self._plan_hand_over()

    def _place(self, live: Sequence[WorkerRow]) -> None:
        # Our own row may be late; whether we have a lane we know better.
        mine = next((row for row in live if row.id == self._me), self._row)
        others = [row for row in live if row.id != self._me]
        placement = Placement.of(self._count, [*others, replace(mine, present=True)])
        if placement != self._placement:
            self._placement, self._placed_at = placement, self._now

    @property
    def _alone(self) -> bool:
        return self._placement.is_alone(self._me)

    def _plan_claims(self, free: Iterable[tuple[int, UUID | None]]) -> None:
        now = self._now
        plan = self._free.plan(now, free, self._phase, self._placement)
        self._more = plan.more
        self._look_at = min(self._look_at, plan.look_at)
        if plan.more:
            self._look_at = now + pace.ROUND_SECONDS * (1 + self._draw())
        self._lock(plan.chosen)

    # --- claiming

    def _lock(self, shards: list[int]) -> None:
        if not shards:
            return
        for shard in shards:
            self._set(shard, Phase.LOCKING)
        self._effects.append(steps.Lock(shards))

    def _locked(self, event: steps.Locked) -> None:
        got = [s for s in event.got if self._phase.get(s) is Phase.LOCKING]
        for shard in got:
            self._set(shard, Phase.CLAIMING)
            self._locked_at[shard] = self._now
        self._abandon(set(event.asked) - set(got))
        if got:
            self._effects.append(steps.WriteClaims(got))

    def _claimed(self, event: steps.Claimed) -> None:
        for row in event.rows:
            before = self._suspended.get(row.shard)
            claim = steps.claim_of(row, self._now, before)
            self._claims[row.shard] = claim
            if before is not None and before.claim_id == row.before:
                del self._suspended[row.shard]
                self._set(row.shard, Phase.SERVED)
                assert self._resumed is not None  # suspended until a lane decides
                self._resumed.append(claim)
                continue
            self._forget_suspended([row.shard])
            self._set(row.shard, Phase.WAITING)
            # The former owner may still believe itself fresh: outwait that.
            locked = self._locked_at[row.shard]
            self._waiting[row.shard] = (
                locked if row.released else self._opens_at(locked)
            )
        missed = set(event.asked) - {row.shard for row in event.rows}
        if missed:
            self._effects.append(steps.Unlock(sorted(missed)))
            self._abandon(missed)

    def _opens_at(self, locked: float) -> float:
        return locked + self._freshness

    def _abandon(self, shards: Iterable[int]) -> None:
        for shard in shards:
            self._set(shard, None)
            self._locked_at.pop(shard, None)
        self._forget_suspended(shards)

    def _forget_suspended(self, shards: Iterable[int]) -> None:
        lost = [self._suspended.pop(s) for s in shards if s in self._suspended]
        if lost:
            self._effects.append(steps.Reset(lost))

    def _prepared(self, event: steps.Prepared) -> None:
        claims = self._still(event.claims, Phase.PREPARING)
        for claim in claims:
            self._set(claim.shard, Phase.SERVED)
            if self._placement.preferred(claim.shard) != self._me:
                self._kept_until[claim.shard] = self._now + 1.5 * self._lease
        if claims:
            self._effects.append(steps.Serve(claims))

    # --- handing over

    def _plan_hand_over(self) -> None:
        if self._alone or self._now < max(
            self._next_hand_over, self._placed_at + pace.SETTLED_SECONDS
        ):
            return
        elsewhere = [
            claim
            for claim in self._with(Phase.SERVED)
            if self._placement.preferred(claim.shard) not in (None, self._me)
            and self._kept_until.get(claim.shard, 0.0) <= self._now
        ]
        if elsewhere:
            self._next_hand_over = self._now + 1.0
            self._hand_over(elsewhere)

    def _hand_over(self, claims: list[Claim]) -> None:
        room = pace.HAND_OVER_AT_ONCE - len(self._with(*_GOING))
        chosen = claims if self._alone else claims[: max(room, 0)]
        for claim in chosen:
            self._set(claim.shard, Phase.ENDING)
            self._kept_until.pop(claim.shard, None)
        if chosen:
            self._effects.append(steps.HandOver(chosen))

    def _ended(self, event: steps.Ended) -> None:
        for claim in self._still(event.claims, Phase.ENDING):
            self._set(claim.shard, Phase.ENDED)

    def _released(self, event: steps.Released) -> None:
        for claim in self._still(event.claims, Phase.RELEASING):
            self._set(claim.shard, None)
            del self._claims[claim.shard], self._locked_at[claim.shard]

    def _drain_asked(self, _: steps.DrainAsked) -> None:
        self._draining = True
        self._forget_suspended(list(self._suspended))

    # --- time

    def _on_time(self) -> None:
        now = self._now
        if self._suspended and now >= self._suspended_until:
            self._forget_suspended(list(self._suspended))
        if self._lane_open and self._resumed is not None and not self._suspended:
            self._effects.append(steps.Resume(self._resumed))
            self._resumed = None
        self._let_wait_end()
        if self._draining:
            self._drain_on()
        else:
            self._reach_out()
        # One release at a time: what ends meanwhile goes with the next.
        ended = [] if self._in[Phase.RELEASING] else self._with(Phase.ENDED)
        for claim in ended:
            self._set(claim.shard, Phase.RELEASING)
        if ended:
            self._effects.append(steps.Release(ended))

    def _let_wait_end(self) -> None:
        ready = [s for s, until in self._waiting.items() if until <= self._now]
        for shard in ready:
            del self._waiting[shard]
            self._set(shard, Phase.PREPARING)
        if ready and not self._draining:
            self._effects.append(steps.Prepare([self._claims[s] for s in ready]))

    def _drain_on(self) -> None:
        for claim in self._with(Phase.PREPARING):
            # Never served: nothing is to be ended. What waits for W goes on waiting:
            # who finds a shard released serves it at once.
            self._set(claim.shard, Phase.ENDED)
        self._hand_over(self._with(Phase.SERVED))
        if not self._phase and not self._drained:
            self._drained = True
            self._effects.append(steps.Drained())

    def _reach_out(self) -> None:
        if self._row.role == "front":
            return
        if not self._lane_open:
            if not self._opening and self._now >= self._reopen_at:
                self._opening = True
                self._effects.append(steps.OpenLane())
            return
        if self._may_look:
            # Without another look: the lock is what decides.
            self._lock(self._free.due(self._now, self._phase))
        if self._may_look and self._now >= self._look_at:
            self._looking = True
            self._look_at = _NEVER
            self._effects.append(steps.Look(len(self._phase) < self._count))

    @property
    def _may_look(self) -> bool:  # What is suspended is decided first.
        return self._lane_open and not self._looking and not self._suspended

    def _set_wake(self) -> None:
        times = [*self._waiting.values()]
        if self._suspended:
            times.append(self._suspended_until)
        if not self._draining and self._row.role != "front":
            if not self._lane_open and not self._opening:
                times.append(self._reopen_at)
            elif self._may_look:
                times += [self._look_at, self._free.due_at]
        self.wake_at = min(times, default=_NEVER)

    def _set(self, shard: int, phase: Phase | None) -> None:
        before = self._phase.pop(shard, None)
        if before is not None:
            del self._in[before][shard]
        if phase is not None:
            self._phase[shard] = phase
            self._in[phase][shard] = None

    def _with(self, *phases: Phase) -> list[Claim]:
        return [self._claims[s] for phase in phases for s in self._in[phase]]

    def _still(self, claims: Iterable[Claim], phase: Phase) -> list[Claim]:
        return [
            claim
            for claim in claims
            if self._phase.get(claim.shard) is phase
            and self._claims[claim.shard] == claim
        ]
