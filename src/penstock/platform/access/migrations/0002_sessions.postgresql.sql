CREATE TABLE penstock_links (
    hash TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    scopes TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (hash),
    FOREIGN KEY(user_id) REFERENCES penstock_users (id)
);

CREATE TABLE penstock_sessions (
    id TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    hash TEXT NOT NULL,
    key_id TEXT,
    scopes TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    idle_ttl INTEGER NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    address TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES penstock_users (id),
    UNIQUE (hash),
    FOREIGN KEY(key_id) REFERENCES penstock_keys (id)
);
