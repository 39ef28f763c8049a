-- Advisory locks: class 17489 is a shard's session lock, held by its owner's lane;
-- class 17490 is its fence lock, exclusive to claim, shared to write off the lane.

CREATE SCHEMA IF NOT EXISTS durable;

CREATE TABLE durable.cluster (
    one boolean PRIMARY KEY DEFAULT true CONSTRAINT cluster_one_row CHECK (one),
    shards integer NOT NULL,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE durable.namespace (
    tag bigint PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE durable.worker (
    id uuid PRIMARY KEY,
    address text NOT NULL,
    version text NOT NULL,
    draining boolean NOT NULL DEFAULT false,
    started_at timestamptz DEFAULT now(),
    beat timestamptz DEFAULT now()
);

CREATE TABLE durable.shard (
    id integer PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,
    claim_id uuid,
    owner uuid,
    changed_at timestamptz DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE durable.object (
    shard integer NOT NULL,
    id uuid NOT NULL,
    tag bigint NOT NULL,
    name text,
    sql_schema text,
    created_at timestamptz DEFAULT now(),
    PRIMARY KEY (shard, id)
);

CREATE TABLE durable.alarm (
    shard integer NOT NULL,
    object uuid NOT NULL,
    due timestamptz NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    PRIMARY KEY (shard, object)
) WITH (fillfactor = 80);

CREATE INDEX alarm_due ON durable.alarm (shard, due);

CREATE TABLE durable.kv (
    shard integer NOT NULL,
    object uuid NOT NULL,
    space text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value json,
    blob bytea,
    PRIMARY KEY (shard, object, space, key),
    CONSTRAINT kv_one_value CHECK (num_nonnulls(value, blob) = 1)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);

-- Take shards whose session lock the caller's session holds. Returns a row for each
-- shard that is now the caller's; released says that the former owner flushed and let go.
-- A shard whose fence lock is taken by a running writer is left out: try again.
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

-- Give shards back, under the claim that holds them. The caller unlocks afterwards.
CREATE FUNCTION durable.release(p_shards integer[], p_claims uuid[])
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, durable AS $$
    UPDATE durable.shard t SET owner = NULL, changed_at = clock_timestamp()
    FROM unnest(p_shards, p_claims) AS f (id, claim_id)
    WHERE t.id = f.id AND t.claim_id = f.claim_id;
$$;

-- For writers off the lane: the fence lock, shared, for the rest of the transaction;
-- then, in a later statement (a fresh snapshot), the check. SQLSTATE DF001: stale.
CREATE FUNCTION durable.fence(p_shard integer, p_epoch bigint, p_claim uuid)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, durable AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(17490, p_shard);
    PERFORM 1 FROM durable.shard s
    WHERE s.id = p_shard AND s.epoch = p_epoch AND s.claim_id = p_claim;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'shard % is no longer owned under epoch %', p_shard, p_epoch
            USING ERRCODE = 'DF001';
    END IF;
END $$;

CREATE FUNCTION durable.put_rows(
    k_shard integer[], k_object uuid[], k_space text[], k_key text[],
    k_value text[], k_blob bytea[]
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
BEGIN
    INSERT INTO durable.kv (shard, object, space, key, value, blob)
    SELECT k.shard, k.object, k.space, k.key, k.value::json, k.blob
    FROM unnest(k_shard, k_object, k_space, k_key, k_value, k_blob)
        AS k (shard, object, space, key, value, blob)
    ON CONFLICT (shard, object, space, key)
    DO UPDATE SET value = excluded.value, blob = excluded.blob;
END $$;

-- The rows of many objects' write sets: wipes, new objects, deletes, puts, alarms, in
-- this order.
CREATE FUNCTION durable.write_rows(
    w_shard integer[], w_object uuid[],
    o_shard integer[], o_id uuid[], o_tag bigint[], o_name text[],
    d_shard integer[], d_object uuid[], d_space text[], d_key text[],
    k_shard integer[], k_object uuid[], k_space text[], k_key text[],
    k_value text[], k_blob bytea[],
    a_shard integer[], a_object uuid[], a_due double precision[], a_failures integer[]
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
BEGIN
    IF cardinality(w_shard) > 0 THEN
        DELETE FROM durable.kv t USING unnest(w_shard, w_object) AS w (shard, object)
        WHERE t.shard = w.shard AND t.object = w.object;
        DELETE FROM durable.alarm t USING unnest(w_shard, w_object) AS w (shard, object)
        WHERE t.shard = w.shard AND t.object = w.object;
        DELETE FROM durable.object t USING unnest(w_shard, w_object) AS w (shard, id)
        WHERE t.shard = w.shard AND t.id = w.id;
    END IF;
    IF cardinality(o_shard) > 0 THEN
        INSERT INTO durable.object (shard, id, tag, name)
        SELECT * FROM unnest(o_shard, o_id, o_tag, o_name)
        ON CONFLICT (shard, id) DO NOTHING;
    END IF;
    IF cardinality(d_shard) > 0 THEN
        DELETE FROM durable.kv t
        USING unnest(d_shard, d_object, d_space, d_key) AS d (shard, object, space, key)
        WHERE t.shard = d.shard AND t.object = d.object
          AND t.space = d.space AND t.key = d.key;
    END IF;
    IF cardinality(k_shard) > 0 THEN
        PERFORM durable.put_rows(k_shard, k_object, k_space, k_key, k_value, k_blob);
    END IF;
    IF cardinality(a_shard) > 0 THEN
        DELETE FROM durable.alarm t
        USING unnest(a_shard, a_object, a_due) AS a (shard, object, due)
        WHERE t.shard = a.shard AND t.object = a.object AND a.due IS NULL;
        INSERT INTO durable.alarm (shard, object, due, failures)
        SELECT a.shard, a.object, to_timestamp(a.due), a.failures
        FROM unnest(a_shard, a_object, a_due, a_failures)
            AS a (shard, object, due, failures)
        WHERE a.due IS NOT NULL
        ON CONFLICT (shard, object) DO UPDATE
        SET due = excluded.due, failures = excluded.failures,
            attempt = CASE WHEN excluded.failures = 0 THEN 0 ELSE alarm.attempt END;
    END IF;
END $$;

-- The check of a commit on a lane. SQLSTATE DF001: stale.
CREATE FUNCTION durable.require_claims(
    p_shards integer[], p_epochs bigint[], p_claims uuid[]
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
DECLARE
    v_stale integer[];
BEGIN
    SELECT array_agg(f.id) INTO v_stale
    FROM unnest(p_shards, p_epochs, p_claims) AS f (id, epoch, claim_id)
    WHERE NOT EXISTS (
        SELECT FROM durable.shard s
        WHERE s.id = f.id AND s.epoch = f.epoch AND s.claim_id = f.claim_id
    );
    IF v_stale IS NOT NULL THEN
        RAISE EXCEPTION 'shards % are no longer owned under this claim', v_stale
            USING ERRCODE = 'DF001';
    END IF;
END $$;

-- The commit that is made most: values of known objects and nothing else. Its nine
-- arrays cost the driver a third of what those of the whole function do.
CREATE FUNCTION durable.commit_puts(
    p_shards integer[], p_epochs bigint[], p_claims uuid[],
    k_shard integer[], k_object uuid[], k_space text[], k_key text[],
    k_value text[], k_blob bytea[]
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
BEGIN
    PERFORM durable.require_claims(p_shards, p_epochs, p_claims);
    PERFORM durable.put_rows(k_shard, k_object, k_space, k_key, k_value, k_blob);
END $$;

-- One commit on a lane. The session holds the shards' locks, so the check of epoch and
-- claim is an assertion against operator error and failover.
CREATE FUNCTION durable.commit_on_lane(
    p_shards integer[], p_epochs bigint[], p_claims uuid[],
    w_shard integer[], w_object uuid[],
    o_shard integer[], o_id uuid[], o_tag bigint[], o_name text[],
    d_shard integer[], d_object uuid[], d_space text[], d_key text[],
    k_shard integer[], k_object uuid[], k_space text[], k_key text[],
    k_value text[], k_blob bytea[],
    a_shard integer[], a_object uuid[], a_due double precision[], a_failures integer[]
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
BEGIN
    PERFORM durable.require_claims(p_shards, p_epochs, p_claims);
    PERFORM durable.write_rows(
        w_shard, w_object, o_shard, o_id, o_tag, o_name, d_shard, d_object, d_space,
        d_key, k_shard, k_object, k_space, k_key, k_value, k_blob,
        a_shard, a_object, a_due, a_failures);
END $$;

-- One object's commit on any other session: the fence, then the same rows.
CREATE FUNCTION durable.commit_off_lane(
    p_shard integer, p_epoch bigint, p_claim uuid,
    w_shard integer[], w_object uuid[],
    o_shard integer[], o_id uuid[], o_tag bigint[], o_name text[],
    d_shard integer[], d_object uuid[], d_space text[], d_key text[],
    k_shard integer[], k_object uuid[], k_space text[], k_key text[],
    k_value text[], k_blob bytea[],
    a_shard integer[], a_object uuid[], a_due double precision[], a_failures integer[]
) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, durable AS $$
BEGIN
    PERFORM durable.fence(p_shard, p_epoch, p_claim);
    IF EXISTS (
        SELECT FROM unnest(w_shard || o_shard || d_shard || k_shard || a_shard) s
        WHERE s <> p_shard
    ) THEN
        RAISE EXCEPTION 'a write set holds rows of another shard than %', p_shard
            USING ERRCODE = 'DF002';
    END IF;
    PERFORM durable.write_rows(
        w_shard, w_object, o_shard, o_id, o_tag, o_name, d_shard, d_object, d_space,
        d_key, k_shard, k_object, k_space, k_key, k_value, k_blob,
        a_shard, a_object, a_due, a_failures);
END $$;

-- Alarms that are due within p_ahead seconds, earliest first, with the seconds left by
-- the database's clock, the only one that decides.
CREATE FUNCTION durable.upcoming_alarms(
    p_shards integer[], p_ahead double precision, p_limit integer
) RETURNS TABLE (shard integer, object uuid, wait double precision)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, durable AS $$
    SELECT a.shard, a.object,
           extract(epoch FROM a.due - clock_timestamp())::double precision
    FROM unnest(p_shards) AS s (id)
    CROSS JOIN LATERAL (
        SELECT * FROM durable.alarm t
        WHERE t.shard = s.id
          AND t.due <= clock_timestamp() + p_ahead * interval '1 second'
        ORDER BY t.due LIMIT p_limit
    ) a
    ORDER BY a.due LIMIT p_limit;
$$;

-- Record the attempt, or refuse: an alarm that is not due yet comes back with the
-- seconds left, one that is gone doesn't come back. On the lane that holds the locks.
CREATE FUNCTION durable.begin_alarms(p_shards integer[], p_objects uuid[])
RETURNS TABLE (
    object uuid, due double precision, failures integer, attempt integer,
    wait double precision
) LANGUAGE sql VOLATILE SET search_path = pg_catalog, durable AS $$
    UPDATE durable.alarm t
    SET attempt = t.attempt + CASE WHEN t.due <= clock_timestamp() THEN 1 ELSE 0 END
    FROM unnest(p_shards, p_objects) AS a (shard, object)
    WHERE t.shard = a.shard AND t.object = a.object
    RETURNING t.object, extract(epoch FROM t.due)::double precision, t.failures,
        t.attempt, extract(epoch FROM t.due - clock_timestamp())::double precision;
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA durable FROM PUBLIC;

-- See agents' state with plain SQL.
CREATE VIEW durable.agent_state AS
SELECT n.name AS class, o.name, o.id, k.value AS state, s.owner, s.epoch, o.created_at
FROM durable.kv k
JOIN durable.object o ON o.shard = k.shard AND o.id = k.object
JOIN durable.namespace n ON n.tag = o.tag
JOIN durable.shard s ON s.id = o.shard
WHERE k.space = 'agent' AND k.key = 'state';
