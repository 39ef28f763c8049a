-- Objects that were woken in a shard whose former owner fell, and haven't ended an event
-- since: each such wake is counted before the object's code runs.
CREATE TABLE durable.trial (
    shard integer NOT NULL,
    object uuid NOT NULL,
    wakes integer NOT NULL DEFAULT 1,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, object)
) WITH (fillfactor = 80);

-- Count a wake of each. On the lane that holds the shards' locks.
CREATE FUNCTION durable.begin_trials(p_shards integer[], p_objects uuid[])
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, durable AS $$
    INSERT INTO durable.trial AS t (shard, object)
    SELECT a.shard, a.object FROM unnest(p_shards, p_objects) AS a (shard, object)
    ON CONFLICT (shard, object) DO UPDATE
    SET wakes = t.wakes + 1, at = clock_timestamp();
$$;

-- They have ended an event, and their owner lives. On the same lane.
CREATE FUNCTION durable.end_trials(p_shards integer[], p_objects uuid[])
RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, durable AS $$
    DELETE FROM durable.trial t
    USING unnest(p_shards, p_objects) AS a (shard, object)
    WHERE t.shard = a.shard AND t.object = a.object;
$$;

REVOKE ALL ON FUNCTION durable.begin_trials(integer[], uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION durable.end_trials(integer[], uuid[]) FROM PUBLIC;

-- What took three owners down: the first one's fall made the shard's next claims count,
-- in the second and the third it was woken and ended no event.
CREATE VIEW durable.quarantine AS
SELECT n.app, n.name AS class, o.name, t.object AS id, t.shard, n.tag,
    t.wakes + 1 AS owners, t.at AS last_fall
FROM durable.trial t
JOIN durable.namespace n ON n.doomed_at IS NULL
    AND n.tag = ('x' || left(replace(t.object::text, '-', ''), 8))::bit(32)::bigint
LEFT JOIN durable.object o ON o.shard = t.shard AND o.id = t.object
WHERE t.wakes >= 2;
