-- Which parts of which logs were counted. A log is known by its first line, so under each of the names and in each of
-- the forms that rotation gives it; "tail" stands for the last line before the end of the part. "purpose" is what was
-- counted: logins or inbound.
CREATE TABLE log_part(
    id      INTEGER PRIMARY KEY,
    head    BLOB NOT NULL,
    purpose TEXT NOT NULL,
    begins  INTEGER NOT NULL,
    ends    INTEGER NOT NULL,
    tail    BLOB NOT NULL,
    name    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    said    INTEGER NOT NULL
);
CREATE INDEX log_part_head ON log_part(head, purpose, begins);
CREATE INDEX log_part_name ON log_part(name, at);
CREATE INDEX log_part_at ON log_part(at);

-- A part of a log that is being written: how many pieces of it are.
CREATE TABLE log_writing(
    head   BLOB PRIMARY KEY,
    begins INTEGER NOT NULL,
    ends   INTEGER NOT NULL,
    pieces INTEGER NOT NULL
) WITHOUT ROWID;
