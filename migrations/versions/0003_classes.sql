-- A class belongs to an app (the configuration's `name`); two apps may each have a
-- Counter. A doomed class is deleted: its name is free at once, its rows go in batches.
ALTER TABLE durable.namespace
    ADD COLUMN app text NOT NULL DEFAULT 'main',
    ADD COLUMN doomed_at timestamptz,
    DROP CONSTRAINT namespace_name_key;
CREATE UNIQUE INDEX namespace_of_app ON durable.namespace (app, name)
    WHERE doomed_at IS NULL;

-- serves: the tags of the worker's classes; NULL: it didn't say, so any of them.
-- stale: why it may claim no more: a class that it serves was renamed or deleted.
ALTER TABLE durable.worker
    ADD COLUMN serves bigint[],
    ADD COLUMN stale text;

CREATE TABLE durable.class_migration (
    app text NOT NULL,
    tag text NOT NULL,
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    steps json NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app, tag)
);

-- To find, page through and count the objects of a class. A name is never empty, so
-- '' stands for none.
CREATE INDEX object_of_class
    ON durable.object (tag, coalesce(name COLLATE "C", ''), id);
CREATE INDEX object_with_schema ON durable.object (tag) WHERE sql_schema IS NOT NULL;

-- A worker that was suspended while its class was renamed or deleted must not wake up
-- and serve on: whichever way it claims shards, it gets none. (Skipped, not refused by
-- an error: so it gives the locks back at once, and the others can have them.)
CREATE FUNCTION durable.skip_stale_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, durable AS $$
BEGIN
    IF EXISTS (
        SELECT FROM durable.worker w WHERE w.id = NEW.owner AND w.stale IS NOT NULL
    ) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER skip_stale_owner BEFORE UPDATE OF owner ON durable.shard
FOR EACH ROW WHEN (NEW.owner IS NOT NULL)
EXECUTE FUNCTION durable.skip_stale_owner();

-- An object's id begins with its namespace's tag: a class is a range in each shard.
CREATE FUNCTION durable.first_id(p_tag bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog AS $$
    SELECT (lpad(to_hex(p_tag), 8, '0') || repeat('0', 24))::uuid;
$$;
CREATE FUNCTION durable.last_id(p_tag bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog AS $$
    SELECT (lpad(to_hex(p_tag), 8, '0') || repeat('f', 24))::uuid;
$$;

-- Every table that holds rows of objects, also those of later revisions.
CREATE FUNCTION durable.object_tables() RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT c.oid::regclass FROM pg_class c
    WHERE c.relnamespace = 'durable'::regnamespace AND c.relkind = 'r'
      AND (SELECT count(*) FROM pg_attribute a
           WHERE a.attrelid = c.oid AND NOT a.attisdropped
             AND (a.attname, a.atttypid) IN
                 (('shard', 'int4'::regtype), ('object', 'uuid'::regtype))) = 2
    ORDER BY c.relname;
$$;

-- One step of deleting a doomed class: the schema and role of one of its objects.
-- False: none is left. One at a time, since each drop locks every table in it.
CREATE FUNCTION durable.purge_schema(p_tag bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
DECLARE
    v_object durable.object;
    v_id text;
BEGIN
    SELECT * INTO v_object FROM durable.object o
    WHERE o.tag = p_tag AND o.sql_schema IS NOT NULL
      AND EXISTS (SELECT FROM durable.namespace n
                  WHERE n.tag = p_tag AND n.doomed_at IS NOT NULL)
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    v_id := replace(v_object.id::text, '-', '');
    EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', v_object.sql_schema);
    BEGIN
        EXECUTE format('DROP ROLE IF EXISTS %I', durable.agent_role_prefix() || v_id);
    EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
        RAISE LOG 'the role of agent % is kept: %', v_id, SQLERRM;
    END;
    UPDATE durable.object SET sql_schema = NULL
    WHERE shard = v_object.shard AND id = v_object.id;
    RETURN true;
END $$;

-- The next step: at most so many rows. An object's own row goes after all its others.
-- Returns how many rows went; 0: nothing is left of the class but its name.
CREATE FUNCTION durable.purge_rows(p_tag bigint, p_limit integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, durable AS $$
DECLARE
    v_first uuid := durable.first_id(p_tag);
    v_last uuid := durable.last_id(p_tag);
    v_gone bigint := 0;
    v_count bigint;
    v_shard integer;
    v_table regclass;
BEGIN
    PERFORM 1 FROM durable.namespace n WHERE n.tag = p_tag AND n.doomed_at IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the class with the tag % is not to be deleted', p_tag;
    END IF;
    FOR v_shard IN
        SELECT s.id FROM durable.shard s WHERE EXISTS (
            SELECT FROM durable.object o
            WHERE o.shard = s.id AND o.id BETWEEN v_first AND v_last)
    LOOP
        FOR v_table IN SELECT * FROM durable.object_tables() LOOP
            EXECUTE format(
                'DELETE FROM %1$s WHERE ctid = ANY (ARRAY('
                '  SELECT ctid FROM %1$s WHERE shard = $1'
                '  AND object BETWEEN $2 AND $3 LIMIT $4))', v_table)
            USING v_shard, v_first, v_last, p_limit - v_gone;
            GET DIAGNOSTICS v_count = ROW_COUNT;
            v_gone := v_gone + v_count;
        END LOOP;
        IF v_gone >= p_limit THEN
            RETURN v_gone;  -- there may be more rows of this shard's objects
        END IF;
        DELETE FROM durable.object WHERE ctid = ANY (ARRAY(
            SELECT o.ctid FROM durable.object o
            WHERE o.shard = v_shard AND o.id BETWEEN v_first AND v_last
            LIMIT p_limit - v_gone));
        GET DIAGNOSTICS v_count = ROW_COUNT;
        v_gone := v_gone + v_count;
        EXIT WHEN v_gone >= p_limit;
    END LOOP;
    RETURN v_gone;
END $$;

-- Who owns which shard. held: a live session holds the shard's lock, which is the
-- truth; the row may name a worker that is gone.
CREATE VIEW durable.shard_owner AS
SELECT s.id AS shard, s.owner, w.address AS owner_address, s.epoch, s.changed_at,
    l.pid IS NOT NULL AS held, l.pid AS backend
FROM durable.shard s
LEFT JOIN durable.worker w ON w.id = s.owner
LEFT JOIN pg_catalog.pg_locks l ON l.locktype = 'advisory' AND l.classid = 17489
    AND l.objid = s.id::oid AND l.objsubid = 2 AND l.granted
    AND l.database = (
        SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database());

-- live: it holds shards, or may be about to, having said so a moment ago.
CREATE VIEW durable.worker_status AS
SELECT w.id, w.address, w.version, w.draining, w.started_at, w.beat, w.serves, w.stale,
    coalesce(o.shards, 0) AS shards, coalesce(o.held, 0) AS held,
    coalesce(o.held, 0) > 0 OR w.beat > clock_timestamp() - interval '15 seconds'
        AS live
FROM durable.worker w
LEFT JOIN (
    SELECT s.owner, count(*) AS shards, count(*) FILTER (WHERE s.held) AS held
    FROM durable.shard_owner s GROUP BY s.owner
) o ON o.owner = w.id;

-- All agents. The two sizes are computed only if they are asked for.
CREATE VIEW durable.agents AS
SELECT n.app, n.name AS class, o.name, o.id, o.shard, s.owner,
    w.address AS owner_address, s.epoch, o.created_at, o.sql_schema,
    (SELECT count(*) FROM durable.kv k
     WHERE k.shard = o.shard AND k.object = o.id) AS kv_rows,
    (SELECT coalesce(sum(octet_length(k.key)
            + coalesce(octet_length(k.value::text), octet_length(k.blob))), 0)
     FROM durable.kv k WHERE k.shard = o.shard AND k.object = o.id) AS kv_bytes,
    o.tag
FROM durable.object o
JOIN durable.namespace n ON n.tag = o.tag AND n.doomed_at IS NULL
LEFT JOIN durable.shard s ON s.id = o.shard
LEFT JOIN durable.worker w ON w.id = s.owner;

CREATE OR REPLACE VIEW durable.agent_state AS
SELECT n.name AS class, o.name, o.id, k.value AS state, s.owner, s.epoch, o.created_at,
    n.app
FROM durable.kv k
JOIN durable.object o ON o.shard = k.shard AND o.id = k.object
JOIN durable.namespace n ON n.tag = o.tag AND n.doomed_at IS NULL
JOIN durable.shard s ON s.id = o.shard
WHERE k.space = 'agent' AND k.key = 'state';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA durable FROM PUBLIC;
