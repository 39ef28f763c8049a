DROP VIEW durable.agents, durable.worker_status, durable.shard_owner, durable.agent_state;
CREATE VIEW durable.agent_state AS
SELECT n.name AS class, o.name, o.id, k.value AS state, s.owner, s.epoch, o.created_at
FROM durable.kv k
JOIN durable.object o ON o.shard = k.shard AND o.id = k.object
JOIN durable.namespace n ON n.tag = o.tag
JOIN durable.shard s ON s.id = o.shard
WHERE k.space = 'agent' AND k.key = 'state';

DROP FUNCTION durable.purge_rows(bigint, integer);
DROP FUNCTION durable.purge_schema(bigint);
DROP FUNCTION durable.object_tables();
DROP FUNCTION durable.first_id(bigint);
DROP FUNCTION durable.last_id(bigint);
DROP TRIGGER skip_stale_owner ON durable.shard;
DROP FUNCTION durable.skip_stale_owner();
DROP INDEX durable.object_of_class, durable.object_with_schema;
DROP TABLE durable.class_migration;
ALTER TABLE durable.worker DROP COLUMN serves, DROP COLUMN stale;
DROP INDEX durable.namespace_of_app;
ALTER TABLE durable.namespace
    DROP COLUMN app, DROP COLUMN doomed_at,
    ADD CONSTRAINT namespace_name_key UNIQUE (name);
