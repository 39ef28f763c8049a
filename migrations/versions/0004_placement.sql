-- What placement and the link must know of a node.
-- weight: its share of the shards, relative to others'. role: whether it holds clients'
-- sockets, owns shards, or both. link_address: host:port of its link, NULL without one.
ALTER TABLE durable.worker
    ADD COLUMN weight real NOT NULL DEFAULT 1,
    ADD COLUMN role text NOT NULL DEFAULT 'both',
    ADD COLUMN link_address text,
    ADD COLUMN labels text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT worker_role CHECK (role IN ('front', 'worker', 'both'));

-- Claim shards whose session locks the caller holds. What a writer off the lane is
-- still busy in is left out, to be tried again. before: the claim id that was there, so
-- that a former owner knows whether somebody was in between. For p_grace seconds after
-- a restart of Postgres only the previous owner gets a shard, if it was alive just
-- before and another node hasn't taken its address: else every lane's end would
-- reshuffle all of them.
DROP FUNCTION durable.claim(integer[], uuid);
CREATE FUNCTION durable.claim(
    p_shards integer[], p_owner uuid, p_grace double precision DEFAULT 0
) RETURNS TABLE (id integer, epoch bigint, claim_id uuid, released boolean, before uuid)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
DECLARE
    v_got integer[];
    v_started timestamptz := pg_postmaster_start_time();
    v_grace interval := make_interval(secs => p_grace);
BEGIN
    SELECT coalesce(array_agg(s), '{}') INTO v_got
    FROM unnest(p_shards) s WHERE pg_try_advisory_xact_lock(17490, s);
    IF clock_timestamp() < v_started + v_grace THEN
        SELECT coalesce(array_agg(t.id), '{}') INTO v_got
        FROM durable.shard t
        WHERE t.id = ANY (v_got) AND (
            t.owner IS NULL OR t.owner = p_owner OR t.changed_at >= v_started
            OR NOT EXISTS (
                SELECT FROM durable.worker w
                WHERE w.id = t.owner AND w.beat > v_started - v_grace
                  AND w.address IS DISTINCT FROM
                      (SELECT m.address FROM durable.worker m WHERE m.id = p_owner)));
    END IF;
    RETURN QUERY
    WITH before AS (
        SELECT b.id, b.owner, b.claim_id FROM durable.shard b WHERE b.id = ANY (v_got)
    )
    UPDATE durable.shard t
    SET epoch = t.epoch + 1, claim_id = gen_random_uuid(), owner = p_owner,
        changed_at = clock_timestamp()
    FROM before b WHERE t.id = b.id
    RETURNING t.id, t.epoch, t.claim_id, b.owner IS NULL, b.claim_id;
END $$;
REVOKE ALL ON FUNCTION durable.claim(integer[], uuid, double precision) FROM PUBLIC;
