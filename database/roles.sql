-- Roles and what each may do; run in the database poolscope, as superuser, after schema.sql.
-- Can be run again at any time. Plain SQL without psql's commands, so that both psql and
-- provision.py can run it. Passwords are not here: provision.py gives each role its stored secret,
-- and until then a role cannot log in.

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['poolscope_service', 'poolscope_exporter'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I', role_name);
        END IF;
    END LOOP;
END
$$;
ALTER ROLE poolscope_service
    LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE poolscope_exporter
    LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

-- Everybody may connect, make temporary tables and use the schema unless told otherwise.
REVOKE ALL ON DATABASE poolscope FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM poolscope_service, poolscope_exporter;

GRANT CONNECT ON DATABASE poolscope TO poolscope_service, poolscope_exporter;
GRANT USAGE ON SCHEMA public TO poolscope_service, poolscope_exporter;

GRANT SELECT ON users, posts, comments TO poolscope_service;
GRANT SELECT, INSERT ON transactions TO poolscope_service;
GRANT SELECT, UPDATE (hits) ON hot_rows TO poolscope_service;

-- pg_monitor reads every statistics view with the texts in it, and no table.
GRANT pg_monitor TO poolscope_exporter;

-- The write ladder's tables come and go (ladder.sql); what was revoked above is given back in the
-- same transaction, so that a writer never notices.
DO $$
BEGIN
    IF to_regclass('public.ladder_rows') IS NOT NULL THEN
        GRANT INSERT ON ladder_rows, ladder_rows_partitioned, ladder_rows_unlogged
            TO poolscope_service;
    END IF;
END
$$;
