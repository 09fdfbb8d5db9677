CREATE TABLE health_ingests (
    id TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    key_id TEXT,
    received_at TIMESTAMPTZ NOT NULL,
    completed_at TIMESTAMPTZ,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    error TEXT,
    form TEXT NOT NULL,
    format TEXT,
    content_type TEXT,
    content_encoding TEXT,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    canonical_sha256 TEXT,
    raw TEXT NOT NULL,
    headers TEXT,
    duplicate BOOLEAN NOT NULL,
    parts INTEGER NOT NULL,
    received BIGINT NOT NULL,
    stored BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    unchanged BIGINT NOT NULL,
    quarantined BIGINT NOT NULL,
    types TEXT,
    warnings TEXT,
    PRIMARY KEY (id)
);

CREATE INDEX health_ingests_sha256 ON health_ingests (user_id, sha256);

CREATE INDEX health_ingests_open ON health_ingests (user_id, id) WHERE state <> 'processed';

CREATE INDEX health_ingests_user ON health_ingests (user_id, received_at);

CREATE TABLE health_parts (
    ingest_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    part INTEGER NOT NULL,
    last BOOLEAN NOT NULL,
    committed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (ingest_id, attempt, part)
);

CREATE TABLE health_points (
    user_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    source TEXT NOT NULL,
    end_time TIMESTAMPTZ NOT NULL,
    kind TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    value FLOAT,
    minimum FLOAT,
    maximum FLOAT,
    unit TEXT,
    fields TEXT,
    original TEXT NOT NULL,
    original_unit TEXT,
    offset_minutes SMALLINT,
    warnings TEXT,
    ingest_id TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, metric, time, source, end_time, kind, ordinal)
)
 WITHOUT ROWID;

CREATE TABLE health_workouts (
    user_id INTEGER NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    end_time TIMESTAMPTZ NOT NULL,
    source TEXT NOT NULL,
    value FLOAT,
    unit TEXT,
    fields TEXT,
    original TEXT NOT NULL,
    original_unit TEXT,
    offset_minutes SMALLINT,
    warnings TEXT,
    ingest_id TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, id)
);

CREATE INDEX health_workouts_time ON health_workouts (user_id, time);

CREATE TABLE health_series (
    user_id INTEGER NOT NULL,
    parent_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    source TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    value FLOAT,
    minimum FLOAT,
    maximum FLOAT,
    unit TEXT,
    fields TEXT,
    original TEXT NOT NULL,
    original_unit TEXT,
    offset_minutes SMALLINT,
    warnings TEXT,
    ingest_id TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, parent_id, metric, time, source, ordinal)
)
 WITHOUT ROWID;

CREATE INDEX health_series_metric ON health_series (user_id, metric, time);

CREATE TABLE health_routes (
    user_id INTEGER NOT NULL,
    parent_id TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    ordinal INTEGER NOT NULL,
    latitude FLOAT NOT NULL,
    longitude FLOAT NOT NULL,
    altitude FLOAT,
    fields TEXT,
    original TEXT NOT NULL,
    original_unit TEXT,
    offset_minutes SMALLINT,
    warnings TEXT,
    ingest_id TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, parent_id, time, ordinal)
)
 WITHOUT ROWID;

CREATE INDEX health_routes_place ON health_routes (user_id, latitude, longitude);

CREATE TABLE health_quarters (
    user_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    source TEXT NOT NULL,
    count INTEGER NOT NULL,
    measured INTEGER NOT NULL,
    sum FLOAT,
    minimum FLOAT,
    maximum FLOAT,
    first TIMESTAMPTZ NOT NULL,
    last TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, metric, time, source)
)
 WITHOUT ROWID;

CREATE TABLE health_metrics (
    user_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    source TEXT NOT NULL,
    record TEXT NOT NULL,
    unit TEXT,
    count BIGINT NOT NULL,
    first TIMESTAMPTZ NOT NULL,
    last TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, metric, source)
);

CREATE TABLE health_history (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    record TEXT NOT NULL,
    metric TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    "key" TEXT NOT NULL,
    original TEXT NOT NULL,
    original_unit TEXT,
    value FLOAT,
    unit TEXT,
    ingest_id TEXT NOT NULL,
    replaced_by TEXT NOT NULL,
    replaced_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX health_history_metric ON health_history (user_id, metric, time, "key");

CREATE TABLE health_quarantine (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    ingest_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    type TEXT NOT NULL,
    "index" BIGINT,
    path TEXT NOT NULL,
    reason TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    resolved_at TIMESTAMPTZ,
    PRIMARY KEY (id)
);

CREATE INDEX health_quarantine_ingest ON health_quarantine (ingest_id);

CREATE INDEX health_quarantine_open ON health_quarantine (user_id, ingest_id) WHERE resolved_at IS NULL;

CREATE INDEX health_quarantine_user ON health_quarantine (user_id, created_at);

CREATE TABLE health_characteristics (
    user_id INTEGER NOT NULL,
    "values" TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    verified_at TIMESTAMPTZ,
    PRIMARY KEY (user_id)
);

CREATE TABLE health_quality (
    id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    score FLOAT NOT NULL,
    findings TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (user_id, time)
);
