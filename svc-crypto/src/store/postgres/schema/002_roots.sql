-- Another root beside the one that there was, while keys are wrapped under both.
ALTER TABLE root ADD COLUMN other uuid;

-- What a root wraps: tenants' key-encryption keys (1), and the key of the audit log's chain (12).
CREATE INDEX key_under_root ON key (tenant, purpose, version) WHERE purpose IN (1, 12) AND name = '';
