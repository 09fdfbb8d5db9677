CREATE TABLE penstock_audit (
    id TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    user_id INTEGER,
    key_id TEXT,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    resource TEXT,
    address TEXT,
    user_agent TEXT,
    request_id TEXT,
    details TEXT,
    PRIMARY KEY (id)
);

CREATE INDEX penstock_audit_time ON penstock_audit (time);

CREATE INDEX penstock_audit_user ON penstock_audit (user_id, time);

CREATE TABLE penstock_users (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (name)
);

CREATE TABLE penstock_keys (
    id TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    replaced_by TEXT,
    limits TEXT,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES penstock_users (id),
    UNIQUE (prefix)
);

CREATE INDEX ix_penstock_keys_user_id ON penstock_keys (user_id);
