-- The statements of sqlite-tables.ts, by name.

-- name: epoch
SELECT epoch FROM epoch

-- name: last
SELECT seq FROM sqlite_sequence WHERE name = 'log'

-- name: append
INSERT INTO log (previous, at, bytes, events) VALUES (?, ?, ?, ?)

-- name: after
SELECT major, previous, bytes, events FROM log WHERE major > ? ORDER BY major LIMIT ?

-- name: oldest
SELECT major, at, bytes FROM log ORDER BY major LIMIT ?

-- name: trim
DELETE FROM log WHERE major <= ?

-- name: bytes
SELECT coalesce((SELECT value FROM counter WHERE name = 'log bytes'), (SELECT sum(bytes) FROM log), 0) AS value

-- name: recount bytes
INSERT INTO counter SELECT 'log bytes', coalesce(sum(bytes), 0) FROM log

-- name: count bytes
UPDATE counter SET value = value + ? WHERE name = 'log bytes'

-- name: history bucket
SELECT at, counts FROM history WHERE ring = ? AND slot = ?

-- name: set history bucket
INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)

-- name: history
SELECT at, counts FROM history WHERE ring = ?
