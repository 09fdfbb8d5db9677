CREATE TABLE penstock_links (
    hash TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    scopes TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at TIMESTAMPTZ,
    PRIMARY KEY (hash),
    FOREIGN KEY(user_id) REFERENCES penstock_users (id)
);

CREATE TABLE penstock_sessions (
    id TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    hash TEXT NOT NULL,
    key_id TEXT,
    scopes TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    idle_ttl INTEGER NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ,
    address TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES penstock_users (id),
    UNIQUE (hash),
    FOREIGN KEY(key_id) REFERENCES penstock_keys (id)
);
