"""All that is ever sent on a lane."""

from __future__ import annotations

from durable.store.commit import COMMIT_ON_LANE, COMMIT_PUTS

LOCK = "SELECT id FROM unnest($1::int[]) id WHERE pg_try_advisory_lock(17489, id)"
UNLOCK = "SELECT count(*) FROM unnest($1::int[]) id WHERE pg_advisory_unlock(17489, id)"
CLAIM = (
    "SELECT id, epoch, claim_id, released, before "
    "FROM durable.claim($1::int[], $2::uuid, $3)"
)
UPCOMING = "SELECT shard, object, wait FROM durable.upcoming_alarms($1::int[], $2, $3)"
BEGIN = (
    "SELECT object, due, failures, wait "
    "FROM durable.begin_alarms($1::int[], $2::uuid[])"
)
BEGIN_TRIALS = "SELECT durable.begin_trials($1::int[], $2::uuid[])"
END_TRIALS = "SELECT durable.end_trials($1::int[], $2::uuid[])"
RELEASE = "SELECT durable.release($1::int[], $2::uuid[])"
BEAT = "SELECT 1"
# That the worker with these first bits of its id has a lane; shared, since the session
# of its last lane may linger.
PRESENT = "SELECT pg_try_advisory_lock_shared(17492, $1)"

# Prepared when the lane opens. The driver prepares others on the way, with a Flush: a
# worker that is stopped between that and the Sync has a session that no server-side
# timer ends, and would keep its locks for ever (seen with SIGSTOP).
STATEMENTS = (
    COMMIT_ON_LANE,
    COMMIT_PUTS,
    LOCK,
    UNLOCK,
    CLAIM,
    UPCOMING,
    BEGIN,
    BEGIN_TRIALS,
    END_TRIALS,
    RELEASE,
    BEAT,
    PRESENT,
)
