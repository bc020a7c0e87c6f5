-- What the hooks of all mail servers share. Times are epoch seconds (UTC).

CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('min_version', 1);

-- What each sender sent within the window, and how often its messages are held. One row per account.
CREATE TABLE sender(
    account     TEXT PRIMARY KEY,
    window      BLOB NOT NULL DEFAULT x'',
    last        INTEGER NOT NULL DEFAULT 0,
    told_until  INTEGER
) WITHOUT ROWID;

-- Senders that went over a limit and are stopped.
CREATE TABLE stop(
    account   TEXT PRIMARY KEY,
    since     INTEGER NOT NULL,
    until     INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    detail    TEXT NOT NULL,
    reference TEXT NOT NULL,
    refused   INTEGER NOT NULL DEFAULT 0,
    last      INTEGER NOT NULL
) WITHOUT ROWID;

-- What was refused, held, or would have been; equal ones of one hour share a row.
CREATE TABLE activity(
    id        INTEGER PRIMARY KEY,
    hour      INTEGER NOT NULL,
    first     INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    n         INTEGER NOT NULL,
    account   TEXT NOT NULL,
    address   TEXT NOT NULL,
    country   TEXT NOT NULL,
    service   TEXT NOT NULL,
    door      TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    reason    TEXT NOT NULL,
    detail    TEXT NOT NULL,
    reference TEXT NOT NULL
);
CREATE UNIQUE INDEX activity_same ON activity(hour, account, address, service, verdict, reason);
CREATE INDEX activity_account ON activity(account, last);
CREATE INDEX activity_reference ON activity(reference);

-- Messages that Exim keeps frozen for us.
CREATE TABLE held(
    message    TEXT PRIMARY KEY,
    account    TEXT NOT NULL,
    at         INTEGER NOT NULL,
    recipients INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX held_account ON held(account);

-- What the administrator is to be told.
CREATE TABLE notice(
    id       INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    account  TEXT NOT NULL,
    detail   TEXT NOT NULL,
    sent     INTEGER,
    tries    INTEGER NOT NULL DEFAULT 0
);

-- Roll-ups of the tally. Accounts are integers here.
CREATE TABLE account(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE login_day(
    day     INTEGER NOT NULL,
    account INTEGER NOT NULL,
    country TEXT NOT NULL,
    service TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason  TEXT NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (day, account, country, service, verdict, reason)
) WITHOUT ROWID;
CREATE TABLE traffic_hour(
    hour      INTEGER NOT NULL,
    direction TEXT NOT NULL,
    service   TEXT NOT NULL,
    country   TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (hour, direction, service, country, verdict)
) WITHOUT ROWID;

-- When each door asked last.
CREATE TABLE door(name TEXT, service TEXT, last INTEGER NOT NULL, PRIMARY KEY (name, service)) WITHOUT ROWID;

-- Tally files that are already in the roll-ups, in case their removal was interrupted.
CREATE TABLE folded(file TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
