-- Faults that a commit meets: the row 'fault' names one. For tests/faults/test_database.py.
CREATE FUNCTION public.meet_fault() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fault text := NEW.value::text::jsonb #>> '{}';
BEGIN
    IF fault = 'killed' OR (fault = 'killed at commit' AND TG_WHEN = 'AFTER') THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(60);
    ELSIF fault = 'cancelled' THEN
        PERFORM pg_cancel_backend(pg_backend_pid());
        PERFORM pg_sleep(60);
    ELSIF fault = 'statement timeout' THEN
        PERFORM pg_sleep(60);
    ELSIF fault = 'serialization' THEN
        RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
    ELSIF fault = 'deadlock' THEN
        RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01';
    ELSIF fault = 'disk full' THEN
        RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100';
    ELSIF fault = 'constraint' OR (fault = 'at commit' AND TG_WHEN = 'AFTER') THEN
        RAISE EXCEPTION 'a constraint' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER meet_fault BEFORE INSERT OR UPDATE ON durable.kv
    FOR EACH ROW WHEN (NEW.space = 'user' AND NEW.key = 'fault')
    EXECUTE FUNCTION public.meet_fault();
CREATE CONSTRAINT TRIGGER meet_fault_at_commit AFTER INSERT OR UPDATE ON durable.kv
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.space = 'user' AND NEW.key = 'fault')
    EXECUTE FUNCTION public.meet_fault();
