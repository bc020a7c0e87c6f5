-- What further limits have counted, in a form of its own (decide::meters). Rows of domains (@example.org) and of the
-- server (@) hold what is counted for all their mailboxes together.
ALTER TABLE sender ADD COLUMN meters BLOB NOT NULL DEFAULT x'';
-- Which limit made the stop, and how many messages an hour leave all the same.
ALTER TABLE stop ADD COLUMN by_limit TEXT NOT NULL DEFAULT 'outbound';
ALTER TABLE stop ADD COLUMN quota INTEGER;
