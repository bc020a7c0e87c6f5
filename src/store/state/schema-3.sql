-- How often each account logged in and sent. One row holds all figures of a service in a country: as rows of
-- their own they take three times the room. Days count from the epoch (UTC), months from year 0; accounts are
-- integers, and account 0 is everybody else. login_day keeps what has a reason: refusals, and what would be.
CREATE TABLE account_day(
    day                  INTEGER NOT NULL,
    account              INTEGER NOT NULL,
    country              TEXT NOT NULL,
    service              TEXT NOT NULL,
    tried                INTEGER NOT NULL,
    refused              INTEGER NOT NULL,
    would_refuse         INTEGER NOT NULL,
    succeeded            INTEGER NOT NULL,
    failed               INTEGER NOT NULL,
    sent                 INTEGER NOT NULL,
    sending_refused      INTEGER NOT NULL,
    sending_would_refuse INTEGER NOT NULL,
    held                 INTEGER NOT NULL,
    PRIMARY KEY (day, account, country, service)
) WITHOUT ROWID;
CREATE TABLE account_month(
    month                INTEGER NOT NULL,
    account              INTEGER NOT NULL,
    country              TEXT NOT NULL,
    service              TEXT NOT NULL,
    tried                INTEGER NOT NULL,
    refused              INTEGER NOT NULL,
    would_refuse         INTEGER NOT NULL,
    succeeded            INTEGER NOT NULL,
    failed               INTEGER NOT NULL,
    sent                 INTEGER NOT NULL,
    sending_refused      INTEGER NOT NULL,
    sending_would_refuse INTEGER NOT NULL,
    held                 INTEGER NOT NULL,
    PRIMARY KEY (month, account, country, service)
) WITHOUT ROWID;
-- With all that is asked for, so that a look into it suffices.
CREATE INDEX login_day_reason ON login_day(verdict, reason, day, country, account, n);

-- How many rows a day or a month of a table has, and how many of them began without a good login or a message.
CREATE TABLE room(
    name TEXT NOT NULL,
    at   INTEGER NOT NULL,
    n    INTEGER NOT NULL,
    idle INTEGER NOT NULL,
    PRIMARY KEY (name, at)
) WITHOUT ROWID;

-- traffic_hour once more by day and by month: a year is some ten thousand rows instead of a million.
CREATE TABLE traffic_day(
    day       INTEGER NOT NULL,
    direction TEXT NOT NULL,
    service   TEXT NOT NULL,
    country   TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (day, direction, service, country, verdict)
) WITHOUT ROWID;
CREATE TABLE traffic_month(
    month     INTEGER NOT NULL,
    direction TEXT NOT NULL,
    service   TEXT NOT NULL,
    country   TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    n         INTEGER NOT NULL,
    PRIMARY KEY (month, direction, service, country, verdict)
) WITHOUT ROWID;
INSERT INTO traffic_day
    SELECT hour / 24, direction, service, country, verdict, sum(n) FROM traffic_hour GROUP BY 1, 2, 3, 4, 5;
INSERT INTO traffic_month
    SELECT strftime('%Y', day * 86400, 'unixepoch') * 12 + strftime('%m', day * 86400, 'unixepoch') - 1,
           direction, service, country, verdict, sum(n) FROM traffic_day GROUP BY 1, 2, 3, 4, 5;

-- In which countries an account, and from which networks anybody, logged in well. "days" holds how often, as
-- 32-bit numbers, from day "last" backwards.
CREATE TABLE login_place(
    country TEXT NOT NULL,
    account INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    days    BLOB NOT NULL,
    PRIMARY KEY (country, account)
) WITHOUT ROWID;
CREATE INDEX login_place_account ON login_place(account);
CREATE INDEX login_place_last ON login_place(last);
CREATE TABLE login_network(
    country TEXT NOT NULL,
    network TEXT NOT NULL,
    last    INTEGER NOT NULL,
    days    BLOB NOT NULL,
    PRIMARY KEY (country, network)
) WITHOUT ROWID;
CREATE INDEX login_network_last ON login_network(last);

-- On which day an account was heard of last, and on which it last logged in well or sent: 0 for a name that
-- may be anybody's invention.
ALTER TABLE account ADD COLUMN last INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN proven INTEGER NOT NULL DEFAULT 0;
UPDATE account SET last = coalesce((SELECT max(day) FROM login_day), 0),
                   proven = coalesce((SELECT max(day) FROM login_day), 0);
CREATE INDEX account_last ON account(last);
CREATE INDEX account_unproven ON account(last) WHERE proven = 0;
CREATE INDEX account_domain ON account(substr(name, instr(name, '@') + 1));
