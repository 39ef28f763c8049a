"""Write sets ↔ the parameters of the commit functions. Nothing else writes KV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from durable.domain.alarms import Alarm

if TYPE_CHECKING:
    from durable.domain.writes import Claim, WriteSet

COMMIT_ON_LANE = (
    "SELECT durable.commit_on_lane($1::int[], $2::bigint[], $3::uuid[], "
    "$4::int[], $5::uuid[], $6::int[], $7::uuid[], $8::bigint[], $9::text[], "
    "$10::int[], $11::uuid[], $12::text[], $13::text[], "
    "$14::int[], $15::uuid[], $16::text[], $17::text[], $18::text[], $19::bytea[], "
    "$20::int[], $21::uuid[], $22::float8[], $23::int[])"
)
COMMIT_PUTS = (
    "SELECT durable.commit_puts($1::int[], $2::bigint[], $3::uuid[], "
    "$4::int[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::bytea[])"
)
COMMIT_OFF_LANE = (
    "SELECT durable.commit_off_lane($1::int, $2::bigint, $3::uuid, "
    "$4::int[], $5::uuid[], $6::int[], $7::uuid[], $8::bigint[], $9::text[], "
    "$10::int[], $11::uuid[], $12::text[], $13::text[], "
    "$14::int[], $15::uuid[], $16::text[], $17::text[], $18::text[], $19::bytea[], "
    "$20::int[], $21::uuid[], $22::float8[], $23::int[])"
)

Entry = tuple[UUID, "Claim", "WriteSet"]


def rows_of(entries: Sequence[Entry]) -> tuple[list[object], ...]:
    """The 20 row arrays of ``durable.write_rows`` for these objects' write sets."""
    wipes: list[tuple[int, UUID]] = []
    creates: list[tuple[int, UUID, int, str | None]] = []
    deletes: list[tuple[int, UUID, str, str]] = []
    puts: list[tuple[int, UUID, str, str, str | None, bytes | None]] = []
    alarms: list[tuple[int, UUID, float | None, int]] = []
    for object_id, claim, writes in entries:
        shard = claim.shard
        if writes.alarm is None:
            alarms.append((shard, object_id, None, 0))
        elif isinstance(writes.alarm, Alarm):
            alarms.append((shard, object_id, writes.alarm.due, writes.alarm.failures))
        if writes.wipe:
            wipes.append((shard, object_id))
        if writes.create is not None:
            row = writes.create
            creates.append((shard, object_id, row.tag, row.name))
        for (space, key), value in writes.rows.items():
            if value is None:
                deletes.append((shard, object_id, space, key))
            elif isinstance(value, str):
                puts.append((shard, object_id, space, key, value, None))
            else:
                puts.append((shard, object_id, space, key, None, value))
    return (
        *_columns(wipes, 2),
        *_columns(creates, 4),
        *_columns(deletes, 4),
        *_columns(puts, 6),
        *_columns(alarms, 4),
    )


def on_lane(entries: Sequence[Entry]) -> tuple[list[object], ...]:
    """The parameters of COMMIT_ON_LANE."""
    return (*_claims(entries), *rows_of(entries))


def lane_commit(entries: Sequence[Entry]) -> tuple[str, tuple[list[object], ...]]:
    """The statement that is enough for these write sets, and its parameters."""
    rows = rows_of(entries)
    wipes, creates, deletes, alarms = rows[0], rows[2], rows[6], rows[16]
    if wipes or creates or deletes or alarms:
        return COMMIT_ON_LANE, (*_claims(entries), *rows)
    return COMMIT_PUTS, (*_claims(entries), *rows[10:16])


def _claims(entries: Sequence[Entry]) -> tuple[list[object], ...]:
    claims = {claim.shard: claim for _, claim, _ in entries}
    return (
        list(claims),
        [claim.epoch for claim in claims.values()],
        [claim.claim_id for claim in claims.values()],
    )


def off_lane(object_id: UUID, claim: Claim, writes: WriteSet) -> tuple[object, ...]:
    """The parameters of COMMIT_OFF_LANE."""
    rows = rows_of([(object_id, claim, writes)])
    return (claim.shard, claim.epoch, claim.claim_id, *rows)


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    if not rows:
        return [[] for _ in range(width)]
    return [list(column) for column in zip(*rows, strict=True)]
