CREATE TABLE penstock_audit (
    id TEXT NOT NULL,
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    user_id BIGINT,
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
    id BIGSERIAL NOT NULL,
    name TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (name)
);

CREATE TABLE penstock_keys (
    id TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    replaced_by TEXT,
    limits TEXT,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES penstock_users (id),
    UNIQUE (prefix)
);

CREATE INDEX ix_penstock_keys_user_id ON penstock_keys (user_id);
