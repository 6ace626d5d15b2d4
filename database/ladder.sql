-- The tables that the write ladder writes to; run in the database poolscope, as superuser, after
-- roles.sql, at the start of a ladder run. A table of these names is one that an interrupted run
-- left. The ids are the writer's own, so that whether a batch was written can be asked by its ids.

DROP TABLE IF EXISTS ladder_rows, ladder_rows_partitioned, ladder_rows_unlogged;

CREATE TABLE ladder_rows (
    id         bigint PRIMARY KEY,
    user_id    integer       NOT NULL,
    amount     numeric(12,2) NOT NULL,
    note       text          NOT NULL,
    created_at timestamptz   NOT NULL
);

-- Nothing in WAL: fast, and empty after a crash.
CREATE UNLOGGED TABLE ladder_rows_unlogged (LIKE ladder_rows INCLUDING ALL);

-- A partition per day. A unique index of a partitioned table has to contain its partition key.
CREATE TABLE ladder_rows_partitioned (
    LIKE ladder_rows,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE ladder_rows_day1 PARTITION OF ladder_rows_partitioned
    FOR VALUES FROM ('2026-01-01 00:00:00+00') TO ('2026-01-02 00:00:00+00');
CREATE TABLE ladder_rows_day2 PARTITION OF ladder_rows_partitioned
    FOR VALUES FROM ('2026-01-02 00:00:00+00') TO ('2026-01-03 00:00:00+00');
CREATE TABLE ladder_rows_day3 PARTITION OF ladder_rows_partitioned
    FOR VALUES FROM ('2026-01-03 00:00:00+00') TO ('2026-01-04 00:00:00+00');
CREATE TABLE ladder_rows_day4 PARTITION OF ladder_rows_partitioned
    FOR VALUES FROM ('2026-01-04 00:00:00+00') TO ('2026-01-05 00:00:00+00');

-- Writing is all that the writer does: it may not read, change or delete a row.
GRANT INSERT ON ladder_rows, ladder_rows_partitioned, ladder_rows_unlogged TO poolscope_service;
