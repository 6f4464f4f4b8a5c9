CREATE TABLE accounts (
  created_at INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  ledger TEXT NOT NULL,
  code TEXT NOT NULL,
  flags INTEGER NOT NULL,
  debits_pending INTEGER NOT NULL,
  debits_posted INTEGER NOT NULL,
  credits_pending INTEGER NOT NULL,
  credits_posted INTEGER NOT NULL
) STRICT;
CREATE INDEX accounts_by_tenant ON accounts (tenant);
CREATE INDEX accounts_by_code ON accounts (tenant, code);

CREATE TABLE transfers (
  timestamp INTEGER PRIMARY KEY,
  id BLOB NOT NULL,
  tenant TEXT NOT NULL,
  kind INTEGER NOT NULL,
  linked INTEGER NOT NULL,
  debit BLOB NOT NULL,
  credit BLOB NOT NULL,
  amount INTEGER NOT NULL,
  ledger TEXT NOT NULL,
  code TEXT NOT NULL,
  pending_id BLOB,
  timeout_s INTEGER NOT NULL,
  reference TEXT NOT NULL,
  requested INTEGER
) STRICT;

CREATE TABLE transfer_ids (
  id BLOB PRIMARY KEY,
  timestamp INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
  timestamp INTEGER PRIMARY KEY,
  state INTEGER NOT NULL,
  expires_at INTEGER
) STRICT;
CREATE INDEX reservations_due ON reservations (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE expiries (
  timestamp INTEGER PRIMARY KEY,
  pending INTEGER NOT NULL
) STRICT
