CREATE TABLE penstock_queries (
    id TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    place TEXT NOT NULL,
    sql TEXT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (user_id, name),
    FOREIGN KEY(user_id) REFERENCES penstock_users (id)
);
