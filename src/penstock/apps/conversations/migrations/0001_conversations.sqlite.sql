CREATE TABLE conversations_files (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    owner TEXT NOT NULL,
    project TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0,
    last_row BIGINT NOT NULL DEFAULT -1,
    UNIQUE (host, path)
);
CREATE TABLE conversations_lines (
    id INTEGER PRIMARY KEY,
    file_id BIGINT NOT NULL REFERENCES conversations_files (id),
    generation INTEGER NOT NULL,
    row BIGINT NOT NULL,
    digest BLOB NOT NULL,
    type TEXT NOT NULL,
    subtype TEXT NOT NULL,
    kind TEXT NOT NULL,
    uuid TEXT,
    parent TEXT,
    session TEXT,
    agent TEXT,
    is_sidechain BOOLEAN NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    is_at_given BOOLEAN NOT NULL,
    read_at TIMESTAMPTZ NOT NULL,
    model TEXT,
    tools TEXT,
    paths TEXT,
    leaf TEXT,
    text TEXT NOT NULL,
    line BLOB NOT NULL
);
CREATE INDEX conversations_lines_place ON conversations_lines (file_id, row);
CREATE INDEX conversations_lines_uuid ON conversations_lines (uuid);
CREATE INDEX conversations_lines_session ON conversations_lines (session, at);
CREATE INDEX conversations_lines_leaf ON conversations_lines (leaf) WHERE leaf IS NOT NULL;
CREATE TABLE conversations_sessions (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    host TEXT NOT NULL,
    owner TEXT NOT NULL,
    cwd TEXT,
    branch TEXT,
    version TEXT,
    first_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    lines BIGINT NOT NULL,
    prompts BIGINT NOT NULL,
    answers BIGINT NOT NULL,
    title TEXT,
    title_rank SMALLINT NOT NULL,
    title_at TIMESTAMPTZ
);
CREATE INDEX conversations_sessions_project ON conversations_sessions (project, last_at);
CREATE TABLE conversations_responses (
    key TEXT PRIMARY KEY,
    message TEXT,
    session TEXT,
    project TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    model TEXT,
    is_sidechain BOOLEAN NOT NULL,
    input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    cache_write_5m BIGINT NOT NULL,
    cache_write_1h BIGINT NOT NULL,
    cache_read BIGINT NOT NULL,
    cost_usd FLOAT
);
CREATE INDEX conversations_responses_message ON conversations_responses (message);
CREATE INDEX conversations_responses_at ON conversations_responses (at);
CREATE TABLE conversations_calls (
    id TEXT PRIMARY KEY,
    session TEXT,
    project TEXT,
    name TEXT,
    called_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    is_error BOOLEAN
);
CREATE INDEX conversations_calls_session ON conversations_calls (session);
CREATE VIRTUAL TABLE conversations_search USING fts5 (
    text, content='conversations_lines', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
);
