-- The embedded queue and the events log, in one file. Version 2; what opens a file of another version says so and leaves it alone.

-- Accepted, and neither settled nor buried. `seq` is the handle; AUTOINCREMENT, so that none is ever used again and a late settle cannot
-- remove a later message of the same id.
CREATE TABLE message (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  digest TEXT NOT NULL,
  at INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;

-- Those of them that are not saved yet, by their ids. A message is out of here when its row is committed, and still above until that is
-- announced: under its id there may be another one by then.
CREATE TABLE pending (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Those of them that were handed out at least once. Narrow and apart, so that taking never rewrites a body.
CREATE TABLE delivery (
  seq INTEGER PRIMARY KEY,
  -- Who holds it, until when (milliseconds since 1970; 0: given back).
  owner INTEGER NOT NULL,
  until INTEGER NOT NULL,
  -- How often it was handed out, and how often it was tried by itself.
  count INTEGER NOT NULL,
  attempts INTEGER NOT NULL
) STRICT;

-- Consumers at work, and the process each one is in.
CREATE TABLE owner (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  host TEXT NOT NULL,
  process TEXT NOT NULL
) STRICT;

-- The dead letters. One id may have several: the same id, other content. Their index is in recount.sql.
CREATE TABLE letter (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  digest TEXT NOT NULL,
  at INTEGER NOT NULL,
  body TEXT NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  failed_at INTEGER NOT NULL
) STRICT;

-- The ids saved last.
CREATE TABLE saved (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  digest TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;

-- The events log. Each entry names the one before it; 0: it was the first.
CREATE TABLE log (
  major INTEGER PRIMARY KEY AUTOINCREMENT,
  previous INTEGER NOT NULL,
  at INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  events TEXT NOT NULL
) STRICT;
CREATE TABLE epoch (epoch TEXT NOT NULL) STRICT;

-- What would be a COUNT(*) or a SUM; changed in the transaction that changes what is counted, counted anew at each opening.
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counter VALUES ('messages', 0), ('letters', 0), ('log bytes', 0);
