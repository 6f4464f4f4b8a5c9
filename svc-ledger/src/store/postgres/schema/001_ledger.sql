-- Everything is in the schema that search_path names.

-- What is written is never changed.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;

-- Which key the journal was begun with: its id says nothing of the key.
CREATE TABLE cluster (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key_id bytea NOT NULL
);

-- Who leads. Every append locks this row, FOR SHARE, and a takeover changes it: one waits for the other.
CREATE TABLE leadership (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    leader text NOT NULL,
    address text NOT NULL,
    lease_until timestamptz NOT NULL,
    released boolean NOT NULL
) WITH (fillfactor = 20);
INSERT INTO leadership (epoch, leader, address, lease_until, released) VALUES (0, '', '', clock_timestamp(), true);

-- The truth. The bytes are as in every store.
CREATE TABLE journal (
    sequence bigint PRIMARY KEY CHECK (sequence > 0),
    epoch bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    frame bytea NOT NULL
);
-- Out of line and as it is: compression costs more time than it saves.
ALTER TABLE journal ALTER COLUMN frame SET STORAGE EXTERNAL;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How far the tables below have come. The epoch is that of leadership, and checked by what changes them.
CREATE TABLE watermark (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    last_event bigint NOT NULL
) WITH (fillfactor = 20);
INSERT INTO watermark (epoch, sequence, hash, last_event) VALUES (0, 0, decode(repeat('00', 32), 'hex'), 0);

-- References are bytes: a text here cannot hold every text (no U+0000).
-- An account's number is when it was opened, in nanoseconds.
CREATE TABLE accounts (
    number bigint PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    tenant text NOT NULL,
    ledger text NOT NULL,
    code text NOT NULL,
    flags smallint NOT NULL,
    user_data bigint NOT NULL,
    reference bytea NOT NULL,
    overdraft bigint NOT NULL CHECK (overdraft >= 0),
    closed boolean NOT NULL,
    debits_pending bigint NOT NULL CHECK (debits_pending >= 0),
    debits_posted bigint NOT NULL CHECK (debits_posted >= 0),
    credits_pending bigint NOT NULL CHECK (credits_pending >= 0),
    credits_posted bigint NOT NULL CHECK (credits_posted >= 0)
) WITH (fillfactor = 50);
CREATE INDEX accounts_of_tenant ON accounts (tenant, number);
CREATE INDEX accounts_by_reference ON accounts (tenant, reference, number) WHERE reference <> '';

CREATE TABLE transfers (
    at bigint PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    debit uuid NOT NULL,
    credit uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount >= 0),
    requested bigint,
    user_data bigint NOT NULL,
    pending uuid,
    timeout_s bigint NOT NULL,
    flags smallint NOT NULL,
    tenant text NOT NULL,
    ledger text NOT NULL,
    code text NOT NULL,
    reference bytea NOT NULL
);
CREATE INDEX transfers_of_tenant ON transfers (tenant, at);
CREATE INDEX transfers_by_pending ON transfers (pending) WHERE pending IS NOT NULL;
CREATE INDEX transfers_by_reference ON transfers (tenant, reference, at) WHERE reference <> '';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- When an account was a side of a transfer, in pieces of at most 128, each with its latest. An index on each side
-- would be two entries at random places for each transfer; a piece is one for all of them that came together.
CREATE TABLE postings (
    account uuid NOT NULL,
    until bigint NOT NULL,
    at bigint[] NOT NULL,
    PRIMARY KEY (account, until)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Where reservations stand: 0 open, 1 posted, 2 voided, 3 expired.
CREATE TABLE reservations (
    id uuid PRIMARY KEY,
    state smallint NOT NULL CHECK (state BETWEEN 0 AND 3)
) WITH (fillfactor = 80);
CREATE INDEX reservations_open ON reservations (id) WHERE state = 0;

-- Ids that are never taken again.
CREATE TABLE burned (
    id uuid PRIMARY KEY,
    tenant text NOT NULL
);

-- Balances after each movement, of accounts that keep them.
CREATE TABLE history (
    account bigint NOT NULL,
    at bigint NOT NULL,
    debits_pending bigint NOT NULL,
    debits_posted bigint NOT NULL,
    credits_pending bigint NOT NULL,
    credits_posted bigint NOT NULL,
    PRIMARY KEY (account, at)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
