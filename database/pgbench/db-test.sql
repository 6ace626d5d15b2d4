-- The statement of GET /benchmark/db-test as the services send it (apps/common/tables.py).
\set id random(1, :posts)
SELECT posts.id, posts.title, posts.body, posts.author_id, users.name, comments.id AS id_1, comments.body AS body_1, comments.author_id AS author_id_1, writer.name AS name_1 FROM posts JOIN users ON posts.author_id = users.id LEFT OUTER JOIN comments ON posts.id = comments.post_id LEFT OUTER JOIN users AS writer ON comments.author_id = writer.id WHERE posts.id = :id ORDER BY comments.id;
