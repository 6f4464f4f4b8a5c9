CREATE TABLE watermark (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  sequence INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;
INSERT INTO watermark VALUES (1, 0, zeroblob(32));

CREATE TABLE words (
  id INTEGER PRIMARY KEY,
  word TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE accounts (
  number INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  tenant INTEGER NOT NULL,
  ledger INTEGER NOT NULL,
  code INTEGER NOT NULL,
  user_data INTEGER NOT NULL,
  has_history INTEGER NOT NULL,
  reference TEXT NOT NULL
) STRICT;
CREATE INDEX accounts_by_tenant ON accounts (tenant);
CREATE INDEX accounts_by_code ON accounts (tenant, code);
CREATE INDEX accounts_by_reference ON accounts (tenant, reference) WHERE reference <> '';
CREATE INDEX accounts_by_user_data ON accounts (tenant, user_data) WHERE user_data <> 0;

CREATE TABLE movements (
  timestamp INTEGER PRIMARY KEY,
  body BLOB NOT NULL
) STRICT;

CREATE TABLE ids (
  id BLOB PRIMARY KEY,
  timestamp INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE resolutions (
  reservation BLOB PRIMARY KEY,
  timestamp INTEGER NOT NULL,
  state INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE generations (
  ordinal INTEGER PRIMARY KEY,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  count INTEGER NOT NULL
) STRICT;

CREATE TABLE postings (
  place INTEGER PRIMARY KEY,
  body BLOB NOT NULL
) STRICT
