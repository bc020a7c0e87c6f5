-- domain_days and domain_months once more, one row a domain: "uses" holds all countries and services (by_place.rs),
-- "entries" how many these are, "idle" how many of them tell of no good login and no message; "oldest" is the least
-- last day or month of any. What lies in the older tables comes into these piece by piece, and so does what a program
-- of an older version still puts there.
CREATE TABLE domain_by_day(
    domain  INTEGER PRIMARY KEY,
    oldest  INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    idle    INTEGER NOT NULL,
    uses    BLOB NOT NULL
);
CREATE INDEX domain_by_day_oldest ON domain_by_day(oldest, entries, idle);
CREATE TABLE domain_by_month(
    domain  INTEGER PRIMARY KEY,
    oldest  INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    idle    INTEGER NOT NULL,
    uses    BLOB NOT NULL
);
CREATE INDEX domain_by_month_oldest ON domain_by_month(oldest, entries, idle);

-- login_place once more, one row for a country and 32 accounts (account_places.rs): "oldest" is the least last day of
-- any of its "entries". What lies in the older table comes into this one in the same way.
CREATE TABLE account_place(
    id      INTEGER PRIMARY KEY,
    country TEXT NOT NULL,
    part    INTEGER NOT NULL,
    oldest  INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    days    BLOB NOT NULL,
    UNIQUE (country, part)
);
CREATE INDEX account_place_part ON account_place(part);
CREATE INDEX account_place_oldest ON account_place(oldest, entries);
