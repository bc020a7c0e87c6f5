-- What the administrator chose. Times are epoch seconds (UTC).

CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', 0);

-- Settings that were changed from their defaults.
CREATE TABLE setting(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Allowed countries. A scope that has a row in country_list and none in country allows none; a scope
-- without a row passes on to the next level. Scopes: '*', '@domain', 'account'.
CREATE TABLE country_list(scope TEXT PRIMARY KEY, who TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE country(scope TEXT NOT NULL, code TEXT NOT NULL, PRIMARY KEY (scope, code)) WITHOUT ROWID;

-- Exemptions, whitelist, blocks.
CREATE TABLE entry(
    list    TEXT NOT NULL,
    value   TEXT NOT NULL,
    note    TEXT NOT NULL DEFAULT '',
    who     TEXT NOT NULL,
    at      INTEGER NOT NULL,
    until   INTEGER,
    sending INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (list, value)
) WITHOUT ROWID;

-- Temporary allowances.
CREATE TABLE allowance(
    id      INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    source  TEXT NOT NULL,
    until   INTEGER NOT NULL,
    note    TEXT NOT NULL DEFAULT '',
    who     TEXT NOT NULL,
    at      INTEGER NOT NULL
);

-- What the installer found: numbers of users, so that no program asks for names at run time.
CREATE TABLE host(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Every change.
CREATE TABLE audit(
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    who        TEXT NOT NULL,
    action     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    before     TEXT NOT NULL,
    after      TEXT NOT NULL,
    generation INTEGER NOT NULL
);
