-- The statement of POST /benchmark/insert as the services send it (apps/common/tables.py).
\set user_id random(1, :users)
\set amount random(1, 100000) / 100.0
INSERT INTO transactions (user_id, amount, note, created_at) VALUES (:user_id, :amount, 'poolscope', now()) RETURNING transactions.id;
