-- Whose accounts are: a domain as "@example.org", or a local user by its name. A number for each, as for accounts.
CREATE TABLE domain(
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    last   INTEGER NOT NULL,
    proven INTEGER NOT NULL
);
CREATE INDEX domain_last ON domain(last);
CREATE INDEX domain_unproven ON domain(last) WHERE proven = 0;

-- The domain of each account: none where nobody looked yet, 0 where it got no number.
ALTER TABLE account ADD COLUMN domain INTEGER;
CREATE INDEX account_of_domain ON account(domain);
-- What it was for goes along that one. A program of an older version is slower without it.
DROP INDEX account_domain;

-- account_day and account_month once more by domain. One row holds all days, or all months, of a country and service:
-- "uses" is packed (domains.rs), from "last" backwards. "idle" tells of no good login and no message.
CREATE TABLE domain_days(
    domain  INTEGER NOT NULL,
    country TEXT NOT NULL,
    service TEXT NOT NULL,
    last    INTEGER NOT NULL,
    idle    INTEGER NOT NULL,
    uses    BLOB NOT NULL,
    PRIMARY KEY (domain, country, service)
) WITHOUT ROWID;
CREATE INDEX domain_days_last ON domain_days(last);
CREATE INDEX domain_days_idle ON domain_days(last) WHERE idle = 1;
CREATE TABLE domain_months(
    domain  INTEGER NOT NULL,
    country TEXT NOT NULL,
    service TEXT NOT NULL,
    last    INTEGER NOT NULL,
    idle    INTEGER NOT NULL,
    uses    BLOB NOT NULL,
    PRIMARY KEY (domain, country, service)
) WITHOUT ROWID;
CREATE INDEX domain_months_last ON domain_months(last);
CREATE INDEX domain_months_idle ON domain_months(last) WHERE idle = 1;

-- Figures by account that are there already come into the rows by domain a day at a time, so that no hook waits for
-- it: from which day and month on that is still to be done.
INSERT INTO meta SELECT 'domain_days_from', 0 WHERE EXISTS (SELECT 1 FROM account_day);
INSERT INTO meta SELECT 'domain_months_from', 0 WHERE EXISTS (SELECT 1 FROM account_month);
