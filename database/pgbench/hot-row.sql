-- The statement of POST /benchmark/hot-row as the services send it (apps/common/tables.py).
\set row_id random(1, :hot_rows)
UPDATE hot_rows SET hits=(hot_rows.hits + 1) WHERE hot_rows.id = :row_id;
