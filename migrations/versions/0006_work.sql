-- What agents plan are kv entries in reserved spaces, with JSON that agents/ defines
-- (schedule_store.py, queues.py, dead_letters.py). Times in it are milliseconds.

-- For looking across agents: only the rows that the views show.
CREATE INDEX kv_of_work ON durable.kv (space, shard, object)
    WHERE space IN ('schedules', 'work-queue', 'dead-letters');

CREATE VIEW durable.schedules AS
SELECT n.app, n.name AS class, o.name, o.id AS agent, k.key AS id,
    k.value ->> 'callback' AS callback, k.value ->> 'type' AS type,
    to_timestamp((k.value ->> 'due')::bigint / 1000.0) AS due,
    k.value ->> 'cron' AS cron, k.value ->> 'timezone' AS timezone,
    (k.value ->> 'interval')::double precision AS interval_seconds,
    coalesce((k.value ->> 'paused')::boolean, false) AS paused,
    to_timestamp((k.value ->> 'started')::bigint / 1000.0) AS started,
    coalesce((k.value ->> 'crashes')::integer, 0) AS crashes,
    k.value -> 'payload' AS payload, o.shard, o.tag
FROM durable.kv k
JOIN durable.object o ON o.shard = k.shard AND o.id = k.object
JOIN durable.namespace n ON n.tag = o.tag AND n.doomed_at IS NULL
WHERE k.space = 'schedules';

CREATE VIEW durable.queue AS
SELECT n.app, n.name AS class, o.name, o.id AS agent, k.key::bigint AS number,
    k.value ->> 'id' AS id, k.value ->> 'callback' AS callback,
    to_timestamp((k.value ->> 'created')::bigint / 1000.0) AS created,
    to_timestamp((k.value ->> 'started')::bigint / 1000.0) AS started,
    coalesce((k.value ->> 'crashes')::integer, 0) AS crashes,
    k.value -> 'payload' AS payload, o.shard, o.tag
FROM durable.kv k
JOIN durable.object o ON o.shard = k.shard AND o.id = k.object
JOIN durable.namespace n ON n.tag = o.tag AND n.doomed_at IS NULL
WHERE k.space = 'work-queue';

CREATE VIEW durable.dead_letters AS
SELECT n.app, n.name AS class, o.name, o.id AS agent, k.key AS id,
    k.value ->> 'kind' AS kind, k.value ->> 'id' AS origin_id,
    k.value ->> 'callback' AS callback, k.value ->> 'error' AS error,
    to_timestamp((k.value ->> 'failed')::bigint / 1000.0) AS failed,
    k.value -> 'payload' AS payload, o.shard, o.tag
FROM durable.kv k
JOIN durable.object o ON o.shard = k.shard AND o.id = k.object
JOIN durable.namespace n ON n.tag = o.tag AND n.doomed_at IS NULL
WHERE k.space = 'dead-letters';
