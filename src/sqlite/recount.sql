-- At each opening: puts right what somebody with a SQL shell may have left askew.
DELETE FROM delivery WHERE seq NOT IN (SELECT seq FROM message);
DELETE FROM pending WHERE seq NOT IN (SELECT seq FROM message);
UPDATE counter SET value = (SELECT count(*) FROM message) WHERE name = 'messages';
UPDATE counter SET value = (SELECT count(*) FROM letter) WHERE name = 'letters';
UPDATE counter SET value = (SELECT coalesce(sum(bytes), 0) FROM log) WHERE name = 'log bytes';
