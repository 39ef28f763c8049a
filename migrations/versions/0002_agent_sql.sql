-- An agent's SQL runs in schema agent_<id> under the role agent_<database>_<id>, which
-- can't log in. One login for each database may become any of these roles, and nothing
-- else: it has no right on schema durable but to call the functions granted below, and
-- those demand the shard's claim id. Roles belong to the whole server, so their names
-- carry a hash of the database's.

CREATE FUNCTION durable.agent_role_prefix() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT 'agent_' || left(md5(current_database()), 10) || '_';
$$;

CREATE FUNCTION durable.agent_sql_login() RETURNS name
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT ('durable_agent_sql_' || left(md5(current_database()), 10))::name;
$$;

-- The functions that a statement must not reach even if the parser let it through:
-- they change who the session is, hold locks or wake others, read with another
-- function's name what they were not granted, or run text as SQL.
CREATE FUNCTION durable.agent_sql_reserved() RETURNS SETOF regprocedure
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace
      AND (p.proname ~ '^(pg_(try_)?advisory_|pg_sleep|lo_)'
           OR p.proname ~ '^(query|table|schema|database|cursor)_to_xml'
           OR p.proname IN (
               'set_config', 'pg_notify', 'loread', 'lowrite', 'ts_stat',
               'pg_export_snapshot', 'pg_logical_emit_message',
               'pg_cancel_backend', 'pg_terminate_backend'));
$$;

-- Close them to PUBLIC; who could use them until now still can. False: not allowed to.
CREATE FUNCTION durable.harden_agent_sql() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    v_others text;
    v_function regprocedure;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RETURN false;
    END IF;
    SELECT string_agg(quote_ident(rolname), ', ') INTO v_others FROM pg_roles
    WHERE rolcanlogin AND NOT rolsuper AND rolname !~ '^durable_agent_sql_';
    FOR v_function IN SELECT * FROM durable.agent_sql_reserved() LOOP
        CONTINUE WHEN NOT EXISTS (
            SELECT FROM pg_proc p,
                aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
            WHERE p.oid = v_function AND a.grantee = 0
              AND a.privilege_type = 'EXECUTE');
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', v_function);
        IF v_others IS NOT NULL THEN
            EXECUTE format(
                'GRANT EXECUTE ON FUNCTION %s TO %s', v_function, v_others);
        END IF;
    END LOOP;
    REVOKE USAGE ON LANGUAGE sql, plpgsql FROM PUBLIC;
    IF v_others IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON LANGUAGE sql, plpgsql TO %s', v_others);
    END IF;
    RETURN true;
END $$;

CREATE FUNCTION durable.soften_agent_sql() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    v_function regprocedure;
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        FOR v_function IN SELECT * FROM durable.agent_sql_reserved() LOOP
            CONTINUE WHEN v_function::text ~ '^(lo_import|lo_export)';
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', v_function);
        END LOOP;
        GRANT USAGE ON LANGUAGE sql, plpgsql TO PUBLIC;
    END IF;
END $$;

-- Make the login, or repair it: in a copied or restored database it has no rights yet.
-- The verifier is what Postgres keeps of the password (NULL: no password).
CREATE FUNCTION durable.install_agent_sql(p_verifier text) RETURNS name
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    v_login name := durable.agent_sql_login();
BEGIN
    PERFORM pg_advisory_xact_lock(17491, 1);
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_login) THEN
        EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', v_login);
    END IF;
    IF p_verifier IS NOT NULL THEN
        EXECUTE format('ALTER ROLE %I PASSWORD %L', v_login, p_verifier);
    END IF;
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I TO %I', current_database(), v_login);
    EXECUTE format('GRANT USAGE ON SCHEMA durable TO %I', v_login);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION durable.fence, durable.commit_off_lane, '
        'durable.open_agent_schema, durable.drop_agent_schema, '
        'durable.agent_role_prefix TO %I', v_login);
    IF NOT has_function_privilege(
        v_login, 'pg_catalog.set_config(text, text, boolean)', 'EXECUTE') THEN
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION pg_catalog.set_config TO %I', v_login);
    END IF;
    RETURN v_login;
END $$;

-- Give everything in an agent's schema to its role: nothing to do but in a copied or
-- restored database, where the role is new.
CREATE FUNCTION durable.own_agent_schema(p_schema text, p_role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    v_relation text;
BEGIN
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', p_schema, p_role);
    FOR v_relation IN
        SELECT format('%I.%I', p_schema, c.relname) FROM pg_class c
        WHERE c.relnamespace = p_schema::regnamespace
          AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
          AND c.relowner <> p_role::regrole
          AND NOT EXISTS (  -- a column's own sequence goes with its table
              SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                AND c.relkind = 'S')
        ORDER BY c.relkind = 'S'
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', v_relation, p_role);
    END LOOP;
END $$;

-- An agent issues SQL for the first time: its schema, its role, and the note in its
-- row, which is made if the object was never committed. Repeating it repairs.
CREATE FUNCTION durable.open_agent_schema(
    p_shard integer, p_epoch bigint, p_claim uuid,
    p_object uuid, p_tag bigint, p_name text
) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, durable AS $$
DECLARE
    v_schema text := 'agent_' || replace(p_object::text, '-', '');
    v_role name := durable.agent_role_prefix() || replace(p_object::text, '-', '');
BEGIN
    PERFORM durable.fence(p_shard, p_epoch, p_claim);
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', v_role);
    END IF;
    IF NOT pg_has_role(session_user, v_role, 'MEMBER') THEN
        EXECUTE format('GRANT %I TO %I', v_role, session_user);
    END IF;
    -- To give away what is in the schema one must be able to become the new owner.
    IF NOT pg_has_role(current_user, v_role, 'MEMBER') THEN
        EXECUTE format('GRANT %I TO %I', v_role, current_user);
    END IF;
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', v_schema);
    PERFORM durable.own_agent_schema(v_schema, v_role);
    INSERT INTO durable.object AS o (shard, id, tag, name, sql_schema)
    VALUES (p_shard, p_object, p_tag, p_name, v_schema)
    ON CONFLICT (shard, id) DO UPDATE SET sql_schema = excluded.sql_schema
    WHERE o.sql_schema IS DISTINCT FROM excluded.sql_schema;
    RETURN v_schema;
END $$;

-- Everything that an agent made with SQL goes, and its role.
CREATE FUNCTION durable.drop_agent_schema(
    p_shard integer, p_epoch bigint, p_claim uuid, p_object uuid
) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, durable AS $$
DECLARE
    v_id text := replace(p_object::text, '-', '');
BEGIN
    PERFORM durable.fence(p_shard, p_epoch, p_claim);
    EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', 'agent_' || v_id);
    BEGIN
        EXECUTE format('DROP ROLE IF EXISTS %I', durable.agent_role_prefix() || v_id);
    EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
        RAISE LOG 'the role of agent % is kept: %', v_id, SQLERRM;
    END;
    UPDATE durable.object SET sql_schema = NULL
    WHERE shard = p_shard AND id = p_object AND sql_schema IS NOT NULL;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA durable FROM PUBLIC;
