-- Imports of keys that are under way: the private half of each one's key pair, wrapped under its tenant's key, until
-- somebody takes it or its time is over.
CREATE TABLE import (
    id uuid PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    wrapped bytea NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX import_by_expiry ON import (expires_at);
