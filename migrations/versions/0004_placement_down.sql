DROP FUNCTION durable.claim(integer[], uuid, double precision);
CREATE FUNCTION durable.claim(p_shards integer[], p_owner uuid)
RETURNS TABLE (id integer, epoch bigint, claim_id uuid, released boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
DECLARE
    v_got integer[];
BEGIN
    SELECT coalesce(array_agg(s), '{}') INTO v_got
    FROM unnest(p_shards) s WHERE pg_try_advisory_xact_lock(17490, s);
    RETURN QUERY
    WITH before AS (
        SELECT b.id, b.owner FROM durable.shard b WHERE b.id = ANY (v_got)
    )
    UPDATE durable.shard t
    SET epoch = t.epoch + 1, claim_id = gen_random_uuid(), owner = p_owner,
        changed_at = clock_timestamp()
    FROM before b WHERE t.id = b.id
    RETURNING t.id, t.epoch, t.claim_id, b.owner IS NULL;
END $$;
REVOKE ALL ON FUNCTION durable.claim(integer[], uuid) FROM PUBLIC;
ALTER TABLE durable.worker
    DROP CONSTRAINT worker_role,
    DROP COLUMN weight, DROP COLUMN role, DROP COLUMN link_address, DROP COLUMN labels;
