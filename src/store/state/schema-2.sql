-- Networks from which a mailbox was used well. Days count from the epoch (UTC); accounts are integers, as in the
-- roll-ups; a network is its text, as 192.0.2.0/24.
CREATE TABLE known_network(
    account INTEGER NOT NULL,
    network TEXT NOT NULL,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (account, network)
) WITHOUT ROWID;
CREATE INDEX known_network_last ON known_network(last);
