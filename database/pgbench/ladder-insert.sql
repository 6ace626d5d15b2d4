-- One row in one transaction, with an id of the client's own: what the ladder's first rungs do,
-- without Python. pgbench is given n=0 by --define.
\set n :n + 1
\set id :client_id * 1099511627776 + :n
\set user_id random(1, 10000)
INSERT INTO ladder_rows (id, user_id, amount, note, created_at)
VALUES (:id, :user_id, 1234.56, '0123456789abcdef0123456789abcdef', '2026-01-01 00:00:00+00');
