-- The embedded queue and the events log, in one file. Version 2; a file of another version is refused with an error and not changed.

-- Messages that are neither acknowledged nor dead-lettered. `seq` is the handle. AUTOINCREMENT never uses one again, so that a late
-- acknowledgement cannot remove a later message of the same id.
CREATE TABLE message (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  digest TEXT NOT NULL,
  at INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;

-- The messages that are not marked as saved, by their ids. After markSaved a message is still in the table above, until its events are
-- published, and its id may be pending again for another message.
CREATE TABLE pending (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- The messages that were received at least once. A narrow table of its own, so that receiving never rewrites a body.
CREATE TABLE delivery (
  seq INTEGER PRIMARY KEY,
  -- The consumer it is leased to, and until when (milliseconds since 1970; 0: it was returned).
  owner INTEGER NOT NULL,
  until INTEGER NOT NULL,
  -- The number of its deliveries, and of its attempts.
  count INTEGER NOT NULL,
  attempts INTEGER NOT NULL
) STRICT;

-- The consumers, and the process of each.
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

-- The ids that were saved last.
CREATE TABLE saved (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  digest TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;

-- The events log. Each log entry names the one before it; the first one names 0.
CREATE TABLE log (
  major INTEGER PRIMARY KEY AUTOINCREMENT,
  previous INTEGER NOT NULL,
  at INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  events TEXT NOT NULL
) STRICT;
CREATE TABLE epoch (epoch TEXT NOT NULL) STRICT;

-- The results of a COUNT(*) or a SUM, changed in the transaction that changes what is counted, and recounted each time the file is opened.
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counter VALUES ('messages', 0), ('letters', 0), ('log bytes', 0);
