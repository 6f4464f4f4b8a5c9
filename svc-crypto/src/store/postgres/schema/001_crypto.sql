-- Everything is in the schema that search_path names. What must not be seen is sealed before it comes here.

-- Which root key everything is wrapped under: its id says nothing of the key.
CREATE TABLE root (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL
);

-- All versions of all keys, wrapped. Of the service's own keys the name is empty.
CREATE TABLE key (
    tenant text COLLATE "C" NOT NULL,
    purpose smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    id uuid NOT NULL,
    wrapped bytea NOT NULL,
    created_at bigint NOT NULL,
    imported boolean NOT NULL,
    public_key bytea NOT NULL,
    PRIMARY KEY (tenant, purpose, name, version)
);

-- A change is kept only if the revision on record is the one before.
CREATE TABLE named_key (
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    purpose smallint NOT NULL,
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
    state_at bigint NOT NULL,
    min_decrypt_version bigint NOT NULL,
    rotation_period_s bigint NOT NULL,
    created_at bigint NOT NULL,
    due_at bigint,
    revision bigint NOT NULL CHECK (revision > 0),
    change bigint NOT NULL UNIQUE,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX named_key_due ON named_key (due_at) WHERE due_at IS NOT NULL;

-- Counts the changes of named keys. Whoever changes one holds this row until the commit, so that changes appear in
-- the order of their numbers: who has seen one has seen all before it.
CREATE TABLE last_change (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    number bigint NOT NULL
) WITH (fillfactor = 20);
INSERT INTO last_change (number) VALUES (0);

CREATE TABLE card (
    tenant text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    sealed bytea NOT NULL,
    brand smallint NOT NULL,
    bin text NOT NULL,
    last4 text NOT NULL,
    exp_month smallint NOT NULL,
    exp_year integer NOT NULL,
    fingerprint text NOT NULL,
    digits text,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- Finds a card by its number. Whoever puts or deletes a card has its row here first.
CREATE TABLE card_index (
    tenant text COLLATE "C" NOT NULL,
    tag bytea NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (tenant, tag),
    UNIQUE (tenant, id)
);

-- Every token of digits that there ever was, and the card that it stands or stood for. Never removed: a token that
-- somebody still has must not come to stand for another card.
CREATE TABLE digit_token (
    tenant text COLLATE "C" NOT NULL,
    digits text NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (tenant, digits)
);

CREATE TABLE deleted_card (
    tenant text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    deleted_at bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- Written in the transaction that makes the answer true: there is none that is still under way.
CREATE TABLE idempotency (
    tenant text COLLATE "C" NOT NULL,
    rpc text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    answer bytea NOT NULL,
    answered_at bigint NOT NULL,
    PRIMARY KEY (tenant, rpc, key)
);
CREATE INDEX idempotency_by_age ON idempotency (answered_at);

-- The audit log: one chain for all replicas. Of two appends after the same record one is refused, by the number.
CREATE TABLE audit_record (
    sequence bigint PRIMARY KEY CHECK (sequence > 0),
    at bigint NOT NULL,
    workload text NOT NULL,
    tenant text NOT NULL,
    key_name text NOT NULL,
    token text NOT NULL,
    key_id bytea NOT NULL,
    key_version bigint NOT NULL,
    verb smallint NOT NULL,
    outcome text NOT NULL,
    count bigint NOT NULL,
    bytes bigint NOT NULL,
    hash bytea NOT NULL
);

-- Nobody changes a record by mistake. Who does it on purpose is found by the chain.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_record
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How much keys' versions were used.
CREATE TABLE key_usage (
    id uuid NOT NULL,
    version bigint NOT NULL,
    messages bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (id, version)
) WITH (fillfactor = 50);
