-- The statement of GET /benchmark/slow-query as the services send it (apps/common/tables.py).
\set user_id random(1, :users)
SELECT users.id, users.name, pg_sleep(:seconds) AS slept FROM users WHERE users.id = :user_id;
