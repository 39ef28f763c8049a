"""The steps of an agent's transaction, before and after its own statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.store.commit import COMMIT_OFF_LANE, off_lane
from durable.store.sql_session import Session, Step

if TYPE_CHECKING:
    from durable.domain.ports import SqlTarget
    from durable.domain.writes import WriteSet

_BEGIN = Step(b"BEGIN")
COMMIT = Step(b"COMMIT")
SAVEPOINT = Step(b"SAVEPOINT statement")
RELEASE = Step(b"RELEASE SAVEPOINT statement")
BACK_TO_SAVEPOINT = Step(b"ROLLBACK TO SAVEPOINT statement")

# Our own role and none of the agent's names while the write set is committed.
_OWN_ROLE = (Step(b"SET LOCAL ROLE NONE"), Step(b"SET LOCAL search_path = pg_catalog"))

# Evaluated from left to right: the fence first, the role last. pg_temp is last in the
# path, so that nobody's temporary table can stand for an agent's own. Prepared once for
# each connection: it names nothing of an agent's, and parsing it is a fifth of a read.
PREPARE_OPENING = """
    PREPARE durable_open (int, bigint, uuid, text, text) AS
    SELECT durable.fence($1, $2, $3),
        pg_catalog.set_config('search_path', $4, true),
        pg_catalog.set_config('role', $5, true)
"""
_OPEN_NEW = (
    b"SELECT durable.open_agent_schema("
    b"$1::int, $2::bigint, $3::uuid, $4::uuid, $5::bigint, $6::text), "
    b"set_config('search_path', $7, true), set_config('role', $8, true)"
)
_DROP = b"SELECT durable.drop_agent_schema($1::int, $2::bigint, $3::uuid, $4::uuid)"


def schema_of(target: SqlTarget) -> str:
    """The name of the agent's schema: it follows from the object's id."""
    return target.schema or f"agent_{target.object_id.hex}"


def opening(
    session: Session, target: SqlTarget, role_prefix: str, *, make: bool
) -> list[Step]:
    """BEGIN, the fence, and becoming the agent; ``make``: its schema and role first."""
    claim, object_id = target.claim, target.object_id
    path = f"{schema_of(target)}, pg_temp"
    role = role_prefix + object_id.hex
    if not make:
        texts = (claim.shard, claim.epoch, claim.claim_id, path, role)
        values = [str(text).encode() for text in texts]
        return [_BEGIN, Step(b"durable_open", values, prepared=True)]
    proof = (claim.shard, claim.epoch, claim.claim_id, object_id)
    row = target.row
    return [_BEGIN, session.step(_OPEN_NEW, (*proof, row.tag, row.name, path, role))]


def dropping(session: Session, target: SqlTarget) -> list[Step]:
    """BEGIN, the fence, and the end of the schema and its role."""
    claim = target.claim
    proof = (claim.shard, claim.epoch, claim.claim_id, target.object_id)
    return [_BEGIN, session.step(_DROP, proof)]


def closing(session: Session, target: SqlTarget, writes: WriteSet | None) -> list[Step]:
    """The write set under our own role, and COMMIT."""
    if not writes:
        return [COMMIT]
    params = off_lane(target.object_id, target.claim, writes)
    return [*_OWN_ROLE, session.step(COMMIT_OFF_LANE.encode(), params), COMMIT]
