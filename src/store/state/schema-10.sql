-- A stop that was released stays, with an end of 0, as long as its account is watched; and how many times it was released
-- while it was.
ALTER TABLE stop ADD COLUMN times INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stop ADD COLUMN watch_until INTEGER;
