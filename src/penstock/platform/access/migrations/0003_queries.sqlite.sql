CREATE TABLE penstock_queries (
    id TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    place TEXT NOT NULL,
    sql TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (user_id, name),
    FOREIGN KEY(user_id) REFERENCES penstock_users (id)
);
