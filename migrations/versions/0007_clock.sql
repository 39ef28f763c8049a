-- The database's clock, which alone decides what is due. A test kit may stop it: then
-- it says what durable.cluster has. STABLE, so that an index can be asked with it: it
-- stands still within a statement, and so is never ahead.
ALTER TABLE durable.cluster ADD COLUMN test_time timestamptz;
CREATE FUNCTION durable.clock() RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, durable AS $$
    SELECT coalesce((SELECT c.test_time FROM durable.cluster c), clock_timestamp());
$$;
REVOKE ALL ON FUNCTION durable.clock() FROM PUBLIC;

CREATE OR REPLACE FUNCTION durable.upcoming_alarms(
    p_shards integer[], p_ahead double precision, p_limit integer
) RETURNS TABLE (shard integer, object uuid, wait double precision)
LANGUAGE sql STABLE SET search_path = pg_catalog, durable AS $$
    WITH moment AS MATERIALIZED (SELECT durable.clock() AS now)
    SELECT a.shard, a.object,
           extract(epoch FROM a.due - moment.now)::double precision
    FROM moment
    CROSS JOIN unnest(p_shards) AS s (id)
    CROSS JOIN LATERAL (
        SELECT * FROM durable.alarm t
        WHERE t.shard = s.id
          AND t.due <= moment.now + p_ahead * interval '1 second'
        ORDER BY t.due LIMIT p_limit
    ) a
    ORDER BY a.due LIMIT p_limit;
$$;

CREATE OR REPLACE FUNCTION durable.begin_alarms(p_shards integer[], p_objects uuid[])
RETURNS TABLE (
    object uuid, due double precision, failures integer, attempt integer,
    wait double precision
) LANGUAGE sql VOLATILE SET search_path = pg_catalog, durable AS $$
    WITH moment AS MATERIALIZED (SELECT durable.clock() AS now)
    UPDATE durable.alarm t
    SET attempt = t.attempt + CASE WHEN t.due <= moment.now THEN 1 ELSE 0 END
    FROM moment CROSS JOIN unnest(p_shards, p_objects) AS a (shard, object)
    WHERE t.shard = a.shard AND t.object = a.object
    RETURNING t.object, extract(epoch FROM t.due)::double precision, t.failures,
        t.attempt, extract(epoch FROM t.due - moment.now)::double precision;
$$;
