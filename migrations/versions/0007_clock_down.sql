CREATE OR REPLACE FUNCTION durable.upcoming_alarms(
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
CREATE OR REPLACE FUNCTION durable.begin_alarms(p_shards integer[], p_objects uuid[])
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
DROP FUNCTION durable.clock();
ALTER TABLE durable.cluster DROP COLUMN test_time;
