-- Further limits of sending, each as JSON (limit::Limit), and for whom another number holds (limit::Override); several
-- for one, with different times.
CREATE TABLE sending_limit(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE limit_override(subject TEXT NOT NULL, limit_name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (subject, limit_name)) WITHOUT ROWID;
