-- The statement of GET /benchmark/heavy as the services send it (apps/common/tables.py).
\set latitude random(-9000000, 9000000) / 100000.0
\set longitude random(-18000000, 18000000) / 100000.0
SELECT users.id, users.name, users.latitude, users.longitude, 12742.0176 * asin(sqrt(least(1.0, power(sin(radians(users.latitude - :latitude) / 2.0), 2.0) + cos(radians(:latitude)) * cos(radians(users.latitude)) * power(sin(radians(users.longitude - :longitude) / 2.0), 2.0)))) AS distance FROM users ORDER BY distance, users.id LIMIT 10;
