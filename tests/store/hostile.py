"""Statements that an attacker would like to run, by kind.

{b} is another agent's schema, {b_tail} the same without its first letter, {b_role}
that agent's role. Its schema has ``secrets (secret TEXT)``, a sequence ``counter`` and
a view ``v``; the attacker's own has ``mine (secret TEXT)``.
"""

from __future__ import annotations

HOSTILE_BY_KIND: dict[str, tuple[str, ...]] = {
    "reads of other schemas": (
        "SELECT * FROM {b}.secrets",
        'SELECT * FROM "{b}"."secrets"',
        "TABLE {b}.secrets",
        "SELECT * FROM postgres.{b}.secrets",
        "SELECT * FROM ONLY {b}.secrets s WHERE s.secret LIKE 't%'",
        "SELECT (SELECT s FROM {b}.secrets s LIMIT 1)",
        "SELECT 1 WHERE EXISTS (SELECT FROM {b}.secrets)",
        "VALUES ((SELECT min(secret) FROM {b}.secrets))",
        "SELECT 1 UNION ALL SELECT count(*) FROM {b}.secrets",
        "WITH x AS (SELECT * FROM {b}.secrets) SELECT * FROM x",
        "SELECT 1 ORDER BY (SELECT min(secret) FROM {b}.secrets)",
        "SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM {b}.secrets)) FROM mine",
        "SELECT * FROM mine, LATERAL (SELECT * FROM {b}.secrets) s",
        "INSERT INTO mine SELECT secret FROM {b}.secrets",
        "INSERT INTO mine VALUES ('x') RETURNING (SELECT min(secret) FROM {b}.secrets)",
        "UPDATE mine SET secret = (SELECT secret FROM {b}.secrets LIMIT 1)",
        "DELETE FROM mine USING {b}.secrets s",
        (
            "MERGE INTO mine USING {b}.secrets s ON false "
            "WHEN NOT MATCHED THEN INSERT VALUES (s.secret)"
        ),
        "CREATE VIEW v AS SELECT * FROM {b}.secrets",
        "CREATE MATERIALIZED VIEW v AS SELECT * FROM {b}.secrets",
        "CREATE TABLE c AS TABLE {b}.secrets",
        "CREATE TABLE c (LIKE {b}.secrets)",
        "CREATE TABLE c (a text REFERENCES {b}.secrets)",
        "CREATE TABLE c (a text DEFAULT (SELECT min(secret) FROM {b}.secrets))",
        "CREATE INDEX ON mine ((EXISTS (SELECT FROM {b}.secrets)))",
        "EXPLAIN ANALYZE SELECT * FROM {b}.secrets",
        "SELECT {b}.f()",
        "SELECT 1 OPERATOR({b}.+) 1",
        "SELECT 'a' COLLATE {b}.\"C\"",
        "SELECT NULL::{b}.secrets",
        "SELECT jsonb_populate_record(NULL::{b}.secrets, '{}')",
        "SELECT * FROM jsonb_to_recordset('[]') AS x (a {b}.secrets)",
        "SELECT * INTO copied FROM {b}.secrets",
    ),
    "writes to other schemas": (
        "INSERT INTO {b}.secrets VALUES ('x')",
        "WITH x AS (DELETE FROM {b}.secrets RETURNING *) SELECT * FROM x",
        "TRUNCATE {b}.secrets",
        "CREATE TABLE {b}.planted (a text)",
        "CREATE SCHEMA evil",
        "CREATE INDEX ON {b}.secrets (secret)",
        "CREATE TABLE kid () INHERITS ({b}.secrets)",
        "CREATE TABLE part PARTITION OF {b}.secrets DEFAULT",
        "CREATE TABLE typed OF {b}.secrets",
        "ALTER TABLE mine INHERIT {b}.secrets",
        "ALTER TABLE mine SET SCHEMA {b}",
        "ALTER TABLE {b}.secrets ADD COLUMN x text",
        "ALTER SCHEMA {b} RENAME TO evil",
        "DROP TABLE {b}.secrets",
        "DROP SCHEMA {b} CASCADE",
        "COMMENT ON TABLE {b}.secrets IS 'x'",
        "REFRESH MATERIALIZED VIEW {b}.v",
        "ANALYZE {b}.secrets",
        "LOCK TABLE {b}.secrets",
        "CREATE RULE r AS ON SELECT TO mine DO INSTEAD SELECT * FROM {b}.secrets",
        "CREATE TRIGGER t BEFORE INSERT ON mine EXECUTE FUNCTION f()",
        "CREATE POLICY p ON mine USING (true)",
    ),
    "our own tables": (
        "SELECT * FROM durable.kv",
        "SELECT claim_id FROM durable.shard",
        "UPDATE durable.kv SET value = '0'",
        "SELECT durable.fence(5, 7, gen_random_uuid())",
        "SELECT durable.drop_agent_schema(5, 7, gen_random_uuid(), gen_random_uuid())",
        "SELECT durable.agent_role_prefix()",
    ),
    "catalogs": (
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM pg_authid",
        "SELECT query FROM pg_stat_activity",
        "SELECT * FROM pg_locks",
        "SELECT * FROM information_schema.tables",
        "SELECT pg_get_viewdef('{b}.v'::text)",
        "SELECT pg_relation_size('{b}.secrets')",
        "SELECT has_table_privilege('{b}.secrets', 'select')",
        "SELECT '{b}.secrets'::regclass::oid",
        "SELECT CAST('postgres' AS regrole)",
        "SELECT regclass('{b}.secrets')",
        "SELECT to_regclass('{b}.secrets')",
        "SELECT ('{b}.secrets'::text).regclass",
        "SELECT col_description(1, 1)",
    ),
    "pg_stats": (
        "SELECT * FROM pg_stats",
        "SELECT most_common_vals::text FROM pg_catalog.pg_stats",
        "SELECT * FROM pg_statistic",
        "SELECT * FROM pg_stats_ext",
    ),
    "set_config": (
        "SELECT set_config('role', 'postgres', false)",
        "SELECT set_config('search_path', '{b}', true)",
        "SELECT pg_catalog.\"set_config\"('role', '{b_role}', true)",
        "SELECT * FROM set_config('role', '{b_role}', true)",
        "UPDATE pg_settings SET setting = '{b_role}' WHERE name = 'role'",
        "SET search_path = {b}",
        "SET statement_timeout = 0",
        "SET LOCAL search_path = {b}",
        "ALTER SYSTEM SET fsync = off",
        "ALTER DATABASE postgres SET search_path = {b}",
        "SHOW data_directory",
        "SELECT current_setting('data_directory')",
        "RESET ALL",
        "DISCARD ALL",
    ),
    "roles": (
        "SET ROLE postgres",
        "SET LOCAL ROLE {b_role}",
        "SET ROLE NONE",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE ROLE evil SUPERUSER",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "ALTER ROLE CURRENT_USER SET search_path = {b}",
        "GRANT {b_role} TO CURRENT_USER",
        "GRANT ALL ON mine TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
        "ALTER TABLE mine OWNER TO postgres",
        "ALTER TABLE {b}.secrets OWNER TO CURRENT_USER",
        "REASSIGN OWNED BY {b_role} TO CURRENT_USER",
        "SELECT current_user",
        "SELECT session_user",
    ),
    "DROP OWNED": (
        "DROP OWNED BY CURRENT_USER",
        "DROP OWNED BY {b_role} CASCADE",
    ),
    "advisory locks": (
        "SELECT pg_advisory_lock(17489, 1)",
        "SELECT pg_try_advisory_lock(17489, 1)",
        "SELECT pg_advisory_xact_lock(17490, 5)",
        "SELECT pg_advisory_unlock_all()",
        "SELECT * FROM pg_try_advisory_xact_lock_shared(17492, 1)",
    ),
    "COPY": (
        "COPY mine TO STDOUT",
        "COPY {b}.secrets TO STDOUT",
        "COPY (SELECT * FROM {b}.secrets) TO PROGRAM 'cat'",
        "COPY mine FROM PROGRAM 'id'",
        "COPY mine FROM '/etc/passwd'",
    ),
    "large objects": (
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_get(1)",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/x')",
        "SELECT loread(lo_open(1, 262144), 10)",
        "SELECT * FROM pg_largeobject",
        "ALTER LARGE OBJECT 1 OWNER TO CURRENT_USER",
    ),
    "functions": (
        "SELECT pg_sleep(60)",
        "SELECT pg_terminate_backend(1)",
        "SELECT pg_cancel_backend(pg_backend_pid())",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT dblink('dbname=postgres', 'SELECT 1')",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET role = evil AS 'SELECT 1'",
        "CREATE PROCEDURE p() LANGUAGE sql AS 'DROP TABLE {b}.secrets'",
        "CALL p()",
        "CREATE EXTENSION dblink",
        "CREATE LANGUAGE plpython3u",
        "CREATE FOREIGN DATA WRAPPER evil",
        "LOAD 'auto_explain'",
    ),
    "DO": (
        "DO $$ BEGIN EXECUTE 'SET ROLE postgres'; END $$",
        (
            "DO LANGUAGE plpgsql $x$ BEGIN "
            "PERFORM set_config('x.y', (SELECT min(secret) FROM {b}.secrets), false); "
            "END $x$"
        ),
    ),
    "comments": (
        "SELECT/**/secret/**/FROM/**/{b}/**/./**/secrets",
        "SELECT /* /* nested */ */ * FROM {b}.secrets",
        "SELECT 1 -- harmless\nFROM {b}.secrets",
        "SELECT pg_sleep/* */(60)",
        "SELECT $$x$$; COMMIT; SELECT $$y$$",
        "SELECT '/*'; COMMIT; SELECT '*/'",
    ),
    "Unicode": (
        'SELECT * FROM U&"\\0061{b_tail}".secrets',
        "SELECT * FROM U&\"!0061{b_tail}\" UESCAPE '!' . secrets",
        'SELECT U&"pg\\005Fsleep"(60)',
        'SELECT pg_catalog.U&"pg\\+00005Fsleep"(60)',
        "SELECT \uff50\uff47_sleep(60)",
        "SELECT pg_\u0455leep(60)",
        "SELECT pg_\u200bsleep(60)",
        "SELECT\u00a0pg_sleep(60)",
    ),
    "search-path overloads": (
        "CREATE FUNCTION length(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OPERATOR = (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)",
        "CREATE AGGREGATE count(text) (SFUNC = textcat, STYPE = text)",
        "CREATE CAST (text AS integer) WITH INOUT",
        "CREATE TYPE text AS (a int4)",
        "CREATE DOMAIN date AS text",
        'CREATE COLLATION "default" FROM "C"',
        "CREATE TEXT SEARCH CONFIGURATION english (COPY = simple)",
        "CREATE TEMP TABLE mine (a text)",
        "CREATE TABLE pg_temp.mine (a text)",
        "CREATE TABLE pg_class (relname text)",
        "SELECT pg_temp.f()",
        "SELECT ('SELECT secret FROM {b}.secrets'::text).ts_stat",
    ),
    "ts_stat": (
        "SELECT ts_stat('SELECT secret FROM {b}.secrets')",
        "SELECT * FROM ts_stat('SELECT to_tsvector(secret) FROM {b}.secrets')",
        "SELECT t.ts_stat FROM unnest(ARRAY['SELECT 1']) t",
    ),
    "ts_rewrite": (
        "SELECT ts_rewrite('a'::tsquery, 'SELECT a, b FROM {b}.secrets')",
        (
            "SELECT ts_rewrite('a'::tsquery, "
            "'SELECT secret::tsquery, secret::tsquery FROM {b}.secrets')"
        ),
    ),
    "query_to_xml": (
        "SELECT query_to_xml('SELECT * FROM {b}.secrets', true, true, '')",
        "SELECT query_to_xmlschema('SELECT * FROM {b}.secrets', true, true, '')",
        "SELECT query_to_xml_and_xmlschema('TABLE {b}.secrets', true, true, '')",
        "SELECT schema_to_xml('{b}', true, true, '')",
        "SELECT database_to_xml(true, true, '')",
        "SELECT xmlparse(document '<a/>')",
    ),
    "table_to_xml": (
        "SELECT table_to_xml('{b}.secrets', true, true, '')",
        "SELECT table_to_xml_and_xmlschema('{b}.secrets', true, true, '')",
    ),
    "cursor_to_xml": (
        "SELECT cursor_to_xml('c', 1, true, true, '')",
        "DECLARE c CURSOR WITH HOLD FOR SELECT secret FROM {b}.secrets",
        "FETCH ALL FROM c",
    ),
    "nextval and setval": (
        "SELECT nextval('{b}.counter')",
        "SELECT setval('{b}.counter', 99)",
        "SELECT currval('{b}.counter')",
        "SELECT nextval('{b}' || '.counter')",
        "SELECT lastval()",
        "SELECT last_value FROM {b}.counter",
        "ALTER SEQUENCE {b}.counter RESTART",
        "CREATE TABLE t (a int8 DEFAULT nextval('{b}.counter'))",
        "CREATE SEQUENCE s OWNED BY {b}.secrets.secret",
    ),
    "COMMIT": (
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
        "COMMIT AND CHAIN",
        "END",
        "ABORT",
        "ROLLBACK; SELECT 1",
        "SELECT 1; COMMIT; SELECT 2",
        "SAVEPOINT s",
        "ROLLBACK TO SAVEPOINT statement",
        "RELEASE SAVEPOINT statement",
        "PREPARE TRANSACTION 'evil'",
        "COMMIT PREPARED 'evil'",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET CONSTRAINTS ALL IMMEDIATE",
    ),
    "PREPARE": (
        "PREPARE p AS SELECT * FROM {b}.secrets",
        "EXECUTE p",
        "EXECUTE durable_open(5, 7, gen_random_uuid(), '{b}', '{b_role}')",
        "DEALLOCATE ALL",
        "EXPLAIN EXECUTE p",
        "EXPLAIN ANALYZE CREATE TABLE x AS EXECUTE p",
    ),
    "LISTEN": (
        "LISTEN shards",
        "UNLISTEN *",
        "NOTIFY shards, 'moved'",
        "SELECT pg_notify('shards', 'moved')",
    ),
    "what belongs to an administrator": (
        "LOCK TABLE mine",
        "VACUUM",
        "CLUSTER",
        "REINDEX DATABASE postgres",
        "CHECKPOINT",
        "CREATE DATABASE evil",
        "CREATE TABLE t TABLESPACE pg_default AS SELECT 1",
        "SELECT * FROM mine TABLESAMPLE system (100)",
        "SECURITY LABEL ON TABLE mine IS 'x'",
        "CREATE PUBLICATION p FOR ALL TABLES",
    ),
}

# The guard refuses each of them, before Postgres sees it.
HOSTILE = tuple(text for texts in HOSTILE_BY_KIND.values() for text in texts)

# Names that only look like those of others: the guard lets them pass, as names of the
# agent's own tables, and Postgres finds none.
LOOK_ALIKES = (
    "SELECT * FROM {b}\uff0esecrets",  # a full-width dot is a letter
    'SELECT * FROM "{b}.secrets"',
    "SELECT * FROM durabl\u0435_kv",  # a Cyrillic letter
)

# What Postgres alone must refuse, and not only keep from giving anything away.
REFUSED_WITHOUT_PARSER = (
    "SELECT * FROM {b}.secrets",
    "SELECT * FROM durable.kv",
    "SELECT claim_id FROM durable.shard",
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
