-- Everything is in the schema that search_path names. What must never be is refused here, whatever a program says.

-- Which state may follow which in one commit; from '' to those that a payment may begin in. Each program adds the steps
-- that it knows when it starts, so that replicas of two versions can run at once.
CREATE TABLE payment_step (
    was text COLLATE "C" NOT NULL,
    becomes text COLLATE "C" NOT NULL,
    PRIMARY KEY (was, becomes)
);

CREATE TABLE payment (
    id uuid PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    -- Who wrote the last versions, the newest first: tells whoever lost the connection in COMMIT what became of it.
    commits uuid[] NOT NULL,
    status text COLLATE "C" NOT NULL,
    reference text COLLATE "C" NOT NULL,
    due_at bigint,
    amount bigint NOT NULL CHECK (amount > 0),
    amount_authorized bigint NOT NULL,
    amount_captured bigint NOT NULL CHECK (amount_captured >= 0),
    amount_capture_pending bigint NOT NULL CHECK (amount_capture_pending >= 0),
    amount_refunded bigint NOT NULL CHECK (amount_refunded >= 0),
    amount_refund_pending bigint NOT NULL CHECK (amount_refund_pending >= 0),
    amount_disputed bigint NOT NULL CHECK (amount_disputed >= 0),
    processor text COLLATE "C" NOT NULL,
    processor_reference text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT authorized_at_most_amount CHECK (amount_authorized BETWEEN 0 AND amount),
    CONSTRAINT captured_at_most_authorized CHECK (amount_captured + amount_capture_pending <= amount_authorized),
    CONSTRAINT refunded_at_most_captured
        CHECK (amount_refunded + amount_refund_pending + amount_disputed <= amount_captured)
);
CREATE INDEX payment_by_tenant ON payment (tenant, id);
CREATE INDEX payment_by_status ON payment (tenant, status, id);
CREATE INDEX payment_by_reference ON payment (tenant, reference, id) WHERE reference <> '';
CREATE UNIQUE INDEX payment_by_processor ON payment (processor_reference, processor) WHERE processor_reference <> '';
CREATE INDEX payment_due ON payment (due_at) WHERE due_at IS NOT NULL;

CREATE FUNCTION payment_takes_step() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_status text := '';
BEGIN
    IF TG_OP = 'UPDATE' THEN
        old_status := OLD.status;
    END IF;
    IF NOT EXISTS (SELECT FROM payment_step WHERE was = old_status AND becomes = NEW.status) THEN
        RAISE EXCEPTION 'a payment cannot take this step' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER payment_begins BEFORE INSERT ON payment FOR EACH ROW EXECUTE FUNCTION payment_takes_step();
CREATE TRIGGER payment_step BEFORE UPDATE ON payment FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION payment_takes_step();

-- `digest`: SHA-256 of key and value, which may be longer than an index takes.
CREATE TABLE payment_metadata (
    tenant text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    payment uuid NOT NULL,
    PRIMARY KEY (tenant, digest, payment)
);

CREATE TABLE event (
    payment uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    type text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (payment, sequence)
);

-- What the ledger has not confirmed. Of a payment only the first is due: the ledger is told in order.
CREATE TABLE posting (
    payment uuid NOT NULL,
    ordinal bigint NOT NULL CHECK (ordinal > 0),
    tenant text COLLATE "C" NOT NULL,
    due_at bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (payment, ordinal)
);
CREATE INDEX posting_due ON posting (due_at);

CREATE TABLE inspection (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment uuid NOT NULL,
    at bigint NOT NULL,
    body bytea NOT NULL
);
