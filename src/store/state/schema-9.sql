-- Notices go by several channels, each with its own progress: when each took which. "sent" is the mail to the
-- administrator.
ALTER TABLE notice ADD COLUMN webhook INTEGER;
ALTER TABLE notice ADD COLUMN command INTEGER;
ALTER TABLE notice ADD COLUMN owner INTEGER;
-- What a channel has behind it: of the notices numbered above "base" it took "taken", and of "gone" it told that they
-- fell off the cap. "memory" is JSON (notices::Memory).
CREATE TABLE notice_channel(
    channel TEXT PRIMARY KEY,
    base    INTEGER NOT NULL,
    taken   INTEGER NOT NULL,
    gone    INTEGER NOT NULL DEFAULT 0,
    memory  TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
INSERT INTO notice_channel(channel, base, taken)
    SELECT 'mail', 0, coalesce(max(id), 0) - count(*) + count(sent) FROM notice;
