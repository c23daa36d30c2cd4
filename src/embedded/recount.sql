-- Runs each time the file is opened. It adds what a file of release 0.1 lacks, and repairs what another program may have changed.

-- The dead letters of an id, those with ID_CONFLICT last.
DROP INDEX IF EXISTS letter_id;
CREATE INDEX IF NOT EXISTS letter_of ON letter (id, (code = 'ID_CONFLICT'), digest, seq);
-- How many ID_CONFLICTs an id has.
CREATE TABLE IF NOT EXISTS conflict (id TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS conflict_added AFTER INSERT ON letter WHEN NEW.code = 'ID_CONFLICT' BEGIN
  INSERT INTO conflict VALUES (NEW.id, 1) ON CONFLICT (id) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER IF NOT EXISTS conflict_removed AFTER DELETE ON letter WHEN OLD.code = 'ID_CONFLICT' BEGIN
  UPDATE conflict SET count = count - 1 WHERE id = OLD.id;
  DELETE FROM conflict WHERE id = OLD.id AND count <= 0;
END;
DELETE FROM conflict;
INSERT INTO conflict SELECT id, count(*) FROM letter WHERE code = 'ID_CONFLICT' GROUP BY id;

-- Persisting is paused while there is a row.
CREATE TABLE IF NOT EXISTS pause (one INTEGER PRIMARY KEY CHECK (one = 1), since INTEGER NOT NULL, by TEXT) STRICT;
-- The history of each ring: a bucket of counts in each slot.
CREATE TABLE IF NOT EXISTS history (
  ring TEXT NOT NULL, slot INTEGER NOT NULL, at INTEGER NOT NULL, counts TEXT NOT NULL, PRIMARY KEY (ring, slot)
) STRICT, WITHOUT ROWID;
-- What each worker reported last, and when.
CREATE TABLE IF NOT EXISTS worker (name TEXT PRIMARY KEY, seen INTEGER NOT NULL, report TEXT NOT NULL) STRICT, WITHOUT ROWID;

DELETE FROM delivery WHERE seq NOT IN (SELECT seq FROM message);
DELETE FROM pending WHERE seq NOT IN (SELECT seq FROM message);
INSERT OR REPLACE INTO counter VALUES
  ('messages', (SELECT count(*) FROM message)),
  ('letters', (SELECT count(*) FROM letter)),
  ('log bytes', (SELECT coalesce(sum(bytes), 0) FROM log));
