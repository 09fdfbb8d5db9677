ALTER TABLE conversations_calls ADD COLUMN path TEXT;
ALTER TABLE conversations_calls ADD COLUMN added BIGINT;
ALTER TABLE conversations_calls ADD COLUMN removed BIGINT;
CREATE INDEX conversations_lines_at ON conversations_lines (at, kind, is_at_given, file_id, session);
CREATE TABLE conversations_drift (
    what TEXT NOT NULL,
    name TEXT NOT NULL,
    lines BIGINT NOT NULL,
    first_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    version TEXT,
    session TEXT,
    PRIMARY KEY (what, name)
);
