"""Statements that an attacker would like to run; {b} is another agent's schema."""

from __future__ import annotations

# Each of these must be refused by the guard, before Postgres sees it.
HOSTILE = (
    "SELECT * FROM {b}.secrets",
    'SELECT * FROM "{b}"."secrets"',
    'SELECT * FROM U&"\\0061{b_tail}".secrets',
    "SELECT/**/secret/**/FROM/**/{b}/**/./**/secrets",
    "SELECT * FROM durable.kv",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM pg_stats",
    "SELECT * FROM information_schema.tables",
    "WITH x AS (SELECT * FROM {b}.secrets) SELECT * FROM x",
    "INSERT INTO {b}.secrets VALUES ('x')",
    "UPDATE mine SET secret = (SELECT secret FROM {b}.secrets LIMIT 1)",
    "DELETE FROM mine USING {b}.secrets s",
    "CREATE VIEW v AS SELECT * FROM {b}.secrets",
    "CREATE TABLE c (LIKE {b}.secrets)",
    "CREATE TABLE c (a text REFERENCES {b}.secrets)",
    "CREATE TABLE {b}.planted (a text)",
    "ALTER TABLE mine SET SCHEMA {b}",
    "ALTER TABLE mine OWNER TO postgres",
    "DROP TABLE {b}.secrets",
    "DROP SCHEMA {b} CASCADE",
    "DROP OWNED BY CURRENT_USER",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT set_config('search_path', '{b}', true)",
    "SET ROLE postgres",
    "RESET ROLE",
    "SET search_path = {b}",
    "SET SESSION AUTHORIZATION postgres",
    "BEGIN",
    "COMMIT",
    "ROLLBACK; SELECT 1",
    "SELECT 1; COMMIT; SELECT 2",
    "SAVEPOINT s",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "LISTEN shards",
    "NOTIFY shards, 'moved'",
    "SELECT pg_notify('shards', 'moved')",
    "LOCK TABLE mine",
    "COPY mine TO STDOUT",
    "COPY mine FROM PROGRAM 'id'",
    "DO $$ BEGIN EXECUTE 'SET ROLE postgres'; END $$",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET role = postgres AS 'SELECT 1'",
    "CREATE EXTENSION dblink",
    "CREATE ROLE evil SUPERUSER",
    "GRANT ALL ON mine TO PUBLIC",
    "SELECT pg_advisory_lock(17489, 1)",
    "SELECT pg_advisory_unlock_all()",
    "SELECT pg_sleep(60)",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT ts_stat('SELECT secret FROM {b}.secrets')",
    "SELECT ('SELECT secret FROM {b}.secrets'::text).ts_stat",
    "SELECT t.ts_stat FROM unnest(ARRAY['SELECT 1']) t",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT a, b FROM {b}.secrets')",
    "SELECT query_to_xml('SELECT * FROM {b}.secrets', true, true, '')",
    "SELECT table_to_xml('{b}.secrets', true, true, '')",
    "SELECT cursor_to_xml('c', 1, true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT '{b}.secrets'::regclass::oid",
    "SELECT CAST('postgres' AS regrole)",
    "SELECT regclass('{b}.secrets')",
    "SELECT to_regclass('{b}.secrets')",
    "SELECT ('{b}.secrets'::text).regclass",
    "SELECT nextval('{b}.counter')",
    "SELECT setval('{b}.counter', 1)",
    "SELECT nextval('{b}' || '.counter')",
    "SELECT lastval()",
    "SELECT current_user",
    "SELECT current_setting('data_directory')",
    "SELECT has_table_privilege('{b}.secrets', 'select')",
    "SELECT pg_get_viewdef('{b}.v'::text)",
    "SELECT {b}.f()",
    "SELECT 1 OPERATOR({b}.+) 1",
    "SELECT 'a' COLLATE {b}.\"C\"",
    "CREATE TEMP TABLE mine (a text)",
    "CREATE TABLE t TABLESPACE pg_default AS SELECT 1",
    "SELECT * INTO copied FROM mine",
    "SELECT * FROM mine TABLESAMPLE system (100)",
    "SELECT xmlparse(document '<a/>')",
    "EXPLAIN EXECUTE p",
    "EXPLAIN ANALYZE CREATE TABLE x AS EXECUTE p",
    "VACUUM",
    "CLUSTER",
    "CHECKPOINT",
    "ALTER SYSTEM SET fsync = off",
    "SECURITY LABEL ON TABLE mine IS 'x'",
    "CREATE RULE r AS ON SELECT TO mine DO INSTEAD SELECT * FROM {b}.secrets",
    "CREATE TRIGGER t BEFORE INSERT ON mine EXECUTE FUNCTION f()",
    "CREATE POLICY p ON mine USING (true)",
)

# These reach Postgres when the parser is switched off, and the roles must stop them.
# (Statements of two steps, such as SET ROLE and then a read, need no parser to fail:
# one call is one statement.)
READS_WITHOUT_PARSER = (
    "SELECT * FROM {b}.secrets",
    "SELECT * FROM durable.kv",
    "SELECT * FROM durable.shard",
    "SELECT * FROM pg_largeobject",
    (
        "SELECT set_config('role', '{b_role}', true), "
        "query_to_xml('SELECT * FROM {b}.secrets', true, true, '')"
    ),
    "SELECT query_to_xml('SELECT * FROM {b}.secrets', true, true, '')",
    "SELECT table_to_xml('{b}.secrets', true, true, '')",
    "SELECT * FROM ts_stat('SELECT to_tsvector(secret) FROM {b}.secrets')",
    (
        "SELECT ts_rewrite('a'::tsquery, "
        "'SELECT secret::tsquery, secret::tsquery FROM {b}.secrets')"
    ),
    (
        "DO $$ BEGIN EXECUTE 'SET ROLE {b_role}'; "
        "PERFORM set_config('x.y', (SELECT secret FROM {b}.secrets), false); END $$"
    ),
    (
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql SET role = '{b_role}' "
        "AS 'SELECT secret FROM {b}.secrets'"
    ),
    "CREATE VIEW v AS SELECT * FROM {b}.secrets",
    "CREATE TABLE c (LIKE {b}.secrets)",
    "GRANT {b_role} TO PUBLIC",
    "ALTER TABLE {b}.secrets OWNER TO CURRENT_USER",
    "REASSIGN OWNED BY {b_role} TO CURRENT_USER",
    "COPY {b}.secrets TO STDOUT",
    "COPY (SELECT * FROM {b}.secrets) TO PROGRAM 'cat'",
    "TRUNCATE {b}.secrets",
    "DROP SCHEMA {b} CASCADE",
    "LOCK TABLE {b}.secrets",
    "SELECT nextval('{b}.counter')",
    "SELECT setval('{b}.counter', 99)",
    "SELECT pg_advisory_lock(17489, 1)",
    "SELECT pg_notify('shards', 'moved')",
    "SELECT pg_sleep(5)",
    "SELECT lo_create(0)",
    "SELECT durable.fence(5, 7, gen_random_uuid())",
    "SELECT durable.drop_agent_schema(5, 7, gen_random_uuid(), gen_random_uuid())",
    "SET SESSION AUTHORIZATION postgres",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
)

NORMAL = (
    (
        "CREATE TABLE todos (id INTEGER GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
        "owner TEXT NOT NULL, title TEXT, done BOOLEAN DEFAULT false, doc JSONB, "
        "made TIMESTAMPTZ DEFAULT now(), CHECK (length(owner) > 0))"
    ),
    "CREATE TABLE IF NOT EXISTS owners (name TEXT PRIMARY KEY, age INT)",
    "ALTER TABLE owners ADD COLUMN IF NOT EXISTS note TEXT DEFAULT ''",
    "CREATE INDEX IF NOT EXISTS by_owner ON todos (owner, made DESC)",
    "CREATE INDEX by_text ON todos USING gin (to_tsvector('english', title))",
    "CREATE INDEX by_doc ON todos USING gin (doc jsonb_path_ops)",
    "CREATE UNIQUE INDEX low ON owners (lower(name)) WHERE age IS NOT NULL",
    "INSERT INTO owners VALUES ('ann', 40), ('bob', NULL) ON CONFLICT DO NOTHING",
    (
        "INSERT INTO todos (owner, title, doc) VALUES ('ann', 'buy milk', "
        "'{\"n\": 1}'), "
        "('bob', 'fly kites', '{\"tags\": [\"a\", \"b\"]}') RETURNING id"
    ),
    (
        "INSERT INTO owners (name, age) VALUES ('ann', 41) "
        "ON CONFLICT (name) DO UPDATE SET age = excluded.age RETURNING *"
    ),
    (
        "SELECT t.title, o.age FROM todos t JOIN owners o ON o.name = t.owner "
        "LEFT JOIN owners p USING (name) WHERE t.done IS NOT TRUE ORDER BY t.made DESC "
        "LIMIT 10 OFFSET 0"
    ),
    (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) "
        "SELECT sum(i) FROM n"
    ),
    (
        "WITH gone AS (DELETE FROM todos WHERE owner = 'nobody' RETURNING *) "
        "SELECT count(*) FROM gone"
    ),
    (
        "SELECT owner, count(*) FILTER (WHERE done), string_agg(title, ', ' "
        "ORDER BY id) "
        "FROM todos GROUP BY ROLLUP (owner) HAVING count(*) > 0"
    ),
    (
        "SELECT id, row_number() OVER w, lag(title) OVER w, sum(id) OVER (PARTITION BY "
        "owner ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM todos "
        "WINDOW w AS (ORDER BY id)"
    ),
    (
        "SELECT doc ->> 'n', doc -> 'tags' -> 0, doc @> '{\"n\": 1}', doc ? 'n', "
        "jsonb_path_query_array(doc, '$.tags[*]') FROM todos"
    ),
    "SELECT e.value FROM todos, jsonb_array_elements_text(doc -> 'tags') e (value)",
    "SELECT * FROM jsonb_to_recordset('[{\"a\": 1}]') AS x (a INT, b TEXT)",
    (
        "SELECT title, ts_rank(to_tsvector('english', title), q) FROM todos, "
        "websearch_to_tsquery('english', 'milk or kite') q "
        "WHERE to_tsvector('english', title) @@ q"
    ),
    "SELECT ts_headline('english', title, to_tsquery('milk')) FROM todos",
    "CREATE VIEW open AS SELECT * FROM todos WHERE NOT done",
    "SELECT * FROM open WHERE title ILIKE '%MILK%' OR title ~ '^fly'",
    "CREATE MATERIALIZED VIEW totals AS SELECT owner, count(*) FROM todos GROUP BY 1",
    "REFRESH MATERIALIZED VIEW totals",
    (
        "UPDATE todos SET done = true, doc = jsonb_set(doc, '{n}', '2') FROM owners o "
        "WHERE o.name = todos.owner AND o.age > 40 RETURNING todos.*"
    ),
    (
        "SELECT CASE WHEN done THEN 'yes' ELSE 'no' END, coalesce(doc, '{}'), "
        "nullif(title, ''), greatest(1, 2), extract(epoch FROM made), "
        "date_trunc('day', made), made AT TIME ZONE 'UTC', made + INTERVAL '1 day', "
        "to_char(made, 'YYYY'), substring(title FROM 1 FOR 3), trim(title) || '!', "
        "CAST(id AS TEXT), id::numeric / 3, round(1.5), title LIKE 'b%' FROM todos"
    ),
    (
        "SELECT owner FROM todos UNION SELECT name FROM owners EXCEPT SELECT 'x' "
        "ORDER BY 1"
    ),
    (
        "SELECT EXISTS (SELECT 1 FROM todos), (SELECT max(id) FROM todos), "
        "ARRAY(SELECT name FROM owners), 1 = ANY (ARRAY[1, 2]), 1 IN (1, 2), "
        "(1, 2) < (1, 3)"
    ),
    "SELECT g, gen_random_uuid(), now(), CURRENT_TIME FROM generate_series(1, 3) g",
    (
        "SELECT o.name, x.title FROM owners o CROSS JOIN LATERAL "
        "(SELECT title FROM todos t WHERE t.owner = o.name LIMIT 1) x"
    ),
    (
        "MERGE INTO owners o USING (VALUES ('cy', 7)) v (name, age) ON o.name = v.name "
        "WHEN MATCHED THEN UPDATE SET age = v.age "
        "WHEN NOT MATCHED THEN INSERT (name, age) VALUES (v.name, v.age)"
    ),
    "EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM todos",
    "CREATE SEQUENCE numbers",
    "SELECT nextval('numbers')",
    "ALTER TABLE todos RENAME COLUMN title TO heading",
    "TRUNCATE owners",
    "DROP TABLE todos CASCADE",
)
