-- The statements of sqlite-tables.ts, sqlite-leases.ts and sqlite-dead-letters.ts, by name. Lists are JSON arrays.

-- name: count
UPDATE counter SET value = value + ? WHERE name = ?

-- name: recount
INSERT OR REPLACE INTO counter VALUES
  ('messages', (SELECT count(*) FROM message)), ('letters', (SELECT count(*) FROM letter))

-- name: depth
SELECT CASE WHEN EXISTS (SELECT 1 FROM message)
  THEN coalesce((SELECT value FROM counter WHERE name = 'messages'), (SELECT count(*) FROM message)) ELSE 0 END AS value

-- name: dead letter count
SELECT coalesce((SELECT value FROM counter WHERE name = 'letters'), (SELECT count(*) FROM letter)) AS value

-- name: set depth
INSERT OR REPLACE INTO counter VALUES ('messages', ?)

-- name: pending
SELECT m.digest, m.at FROM pending p JOIN message m ON m.seq = p.seq WHERE p.id = ?

-- name: saved
SELECT digest, at FROM saved WHERE id = ?

-- name: add
INSERT INTO message (id, digest, at, body) VALUES (?, ?, ?, ?)

-- name: pend
INSERT OR REPLACE INTO pending (id, seq) VALUES (?, ?)

-- name: oldest
SELECT at FROM message ORDER BY seq LIMIT 1

-- name: in flight
SELECT count(*) AS value FROM delivery WHERE until > ?

-- name: release by name
UPDATE delivery SET until = 0 WHERE owner IN (SELECT id FROM owner WHERE name = ? AND host = ? AND process = ?)

-- name: drop owner by name
DELETE FROM owner WHERE name = ? AND host = ? AND process = ?

-- name: add owner
INSERT INTO owner (name, host, process) VALUES (?, ?, ?)

-- name: owners
SELECT id, host, process FROM owner

-- name: drop owner
DELETE FROM owner WHERE id = ?

-- name: release
UPDATE delivery SET until = 0 WHERE owner = ?

-- name: return
UPDATE delivery SET until = 0, count = count - 1 WHERE owner = ?

-- name: returned
SELECT m.seq, m.id, m.body, d.count FROM delivery d CROSS JOIN message m ON m.seq = d.seq
WHERE d.until <= ? ORDER BY d.seq LIMIT ?

-- name: fresh
SELECT m.seq, m.id, m.body, 0 AS count FROM message m
WHERE m.seq > ? AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = m.seq) ORDER BY m.seq LIMIT ?

-- name: deliver
INSERT INTO delivery (seq, owner, until, count, attempts) VALUES (?, ?, ?, 1, 0)
ON CONFLICT (seq) DO UPDATE SET owner = excluded.owner, until = excluded.until, count = count + 1

-- name: extend lease
UPDATE delivery SET until = ? WHERE owner = ? AND seq IN (SELECT value FROM json_each(?))

-- name: count attempt
UPDATE delivery SET attempts = attempts + 1 WHERE seq = ? RETURNING attempts

-- name: withdraw attempt
UPDATE delivery SET attempts = attempts - 1 WHERE seq = ? AND attempts > 0

-- name: remember
INSERT OR REPLACE INTO saved (id, digest, at)
SELECT m.id, m.digest, m.at FROM message m JOIN pending p ON p.id = m.id AND p.seq = m.seq
WHERE m.seq IN (SELECT value FROM json_each(?)) ORDER BY m.seq

-- name: remember existing
INSERT OR IGNORE INTO saved (id, digest, at) SELECT id, ?, ? FROM message WHERE seq = ?

-- name: forget
DELETE FROM saved WHERE seq <= (SELECT max(seq) FROM saved) - ?

-- name: remove pending
DELETE FROM pending WHERE (id, seq) IN (SELECT id, seq FROM message WHERE seq IN (SELECT value FROM json_each(?)))

-- name: remove deliveries
DELETE FROM delivery WHERE seq IN (SELECT value FROM json_each(?))

-- name: remove
DELETE FROM message WHERE seq IN (SELECT value FROM json_each(?))

-- name: dead letter
INSERT INTO letter (id, digest, at, body, code, message, attempts, failed_at)
SELECT id, digest, at, body, ?, ?, ?, ? FROM message WHERE seq = ?

-- name: dead letters
SELECT seq, id, at, body, code, message, attempts, failed_at FROM letter WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?

-- name: dead letters, newest first
SELECT seq, id, at, body, code, message, attempts, failed_at FROM letter WHERE seq > ? AND seq < ? ORDER BY seq DESC LIMIT ?

-- name: conflicts
SELECT count FROM conflict WHERE id = ?

-- name: dead letter of id
SELECT digest, at, code, message, attempts, failed_at FROM letter
WHERE id = ? AND (code = 'ID_CONFLICT') = ? ORDER BY digest, seq LIMIT 1

-- name: dead letter with
SELECT digest, at, code, message, attempts, failed_at FROM letter
WHERE id = ? AND (code = 'ID_CONFLICT') = ? AND digest = ? ORDER BY seq LIMIT 1

-- name: dead letter at
SELECT id, (code = 'ID_CONFLICT') AS isConflict, length(body) AS length FROM letter WHERE seq = ?

-- name: number of dead letters
SELECT coalesce((SELECT count FROM conflict WHERE id = ?1), 0)
  + (SELECT count(*) FROM letter WHERE id = ?1 AND (code = 'ID_CONFLICT') = 0) AS count

-- name: handles of id
SELECT seq FROM letter WHERE id = ? ORDER BY (code = 'ID_CONFLICT'), digest, seq LIMIT ?

-- name: put back
INSERT INTO message (id, digest, at, body) SELECT id, digest, at, body FROM letter WHERE seq = ?

-- name: drop dead letter
DELETE FROM letter WHERE seq = ?

-- name: pause
INSERT OR IGNORE INTO pause VALUES (1, ?, ?)

-- name: resume
DELETE FROM pause

-- name: paused
SELECT since, by FROM pause

-- name: report worker
INSERT OR REPLACE INTO worker VALUES (?, ?, ?)

-- name: forget workers
DELETE FROM worker WHERE seen < ? OR name NOT IN (SELECT name FROM worker ORDER BY seen DESC LIMIT ?)

-- name: workers
SELECT seen, report FROM worker WHERE seen >= ?
