CREATE TABLE health_ingests (
    id UUID NOT NULL,
    user_id BIGINT NOT NULL,
    key_id TEXT,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
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
    ingest_id UUID NOT NULL,
    attempt INTEGER NOT NULL,
    part INTEGER NOT NULL,
    last BOOLEAN NOT NULL,
    committed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (ingest_id, attempt, part)
);

COMMENT ON TABLE health_parts IS 'The parts that are committed: a part that comes again after a crash is known here and not counted twice.';

CREATE TABLE health_points (
    user_id BIGINT NOT NULL,
    metric TEXT COLLATE "C" NOT NULL,
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    end_time TIMESTAMP WITH TIME ZONE NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
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
    ingest_id UUID NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (user_id, metric, time, source, end_time, kind, ordinal)
)
 PARTITION BY RANGE (time);

CREATE INDEX health_points_time ON health_points USING brin (time) WITH (autosummarize = on);

CREATE TABLE health_points_default PARTITION OF health_points DEFAULT;

CREATE TABLE health_workouts (
    user_id BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    end_time TIMESTAMP WITH TIME ZONE NOT NULL,
    source TEXT NOT NULL,
    value FLOAT,
    unit TEXT,
    fields TEXT,
    original TEXT NOT NULL,
    original_unit TEXT,
    offset_minutes SMALLINT,
    warnings TEXT,
    ingest_id UUID NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (user_id, id)
);

CREATE INDEX health_workouts_time ON health_workouts (user_id, time);

CREATE TABLE health_series (
    user_id BIGINT NOT NULL,
    parent_id TEXT COLLATE "C" NOT NULL,
    metric TEXT COLLATE "C" NOT NULL,
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
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
    ingest_id UUID NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (user_id, parent_id, metric, time, source, ordinal)
)
 PARTITION BY RANGE (time);

CREATE INDEX health_series_time ON health_series USING brin (time) WITH (autosummarize = on);

CREATE INDEX health_series_metric ON health_series (user_id, metric, time);

CREATE TABLE health_series_default PARTITION OF health_series DEFAULT;

CREATE TABLE health_routes (
    user_id BIGINT NOT NULL,
    parent_id TEXT COLLATE "C" NOT NULL,
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    ordinal INTEGER NOT NULL,
    latitude FLOAT NOT NULL,
    longitude FLOAT NOT NULL,
    altitude FLOAT,
    fields TEXT,
    original TEXT NOT NULL,
    original_unit TEXT,
    offset_minutes SMALLINT,
    warnings TEXT,
    ingest_id UUID NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (user_id, parent_id, time, ordinal)
)
 PARTITION BY RANGE (time);

CREATE INDEX health_routes_time ON health_routes USING brin (time) WITH (autosummarize = on);

CREATE TABLE health_routes_default PARTITION OF health_routes DEFAULT;

ALTER TABLE health_routes ADD COLUMN position geography(Point, 4326) GENERATED ALWAYS AS (ST_SetSRID(ST_MakePoint(longitude, latitude), 4326)::geography) STORED;

CREATE INDEX health_routes_position ON health_routes USING gist (position);

CREATE TABLE health_quarters (
    user_id BIGINT NOT NULL,
    metric TEXT COLLATE "C" NOT NULL,
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    count INTEGER NOT NULL,
    measured INTEGER NOT NULL,
    sum FLOAT,
    minimum FLOAT,
    maximum FLOAT,
    first TIMESTAMP WITH TIME ZONE NOT NULL,
    last TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (user_id, metric, time, source)
);

COMMENT ON TABLE health_quarters IS 'The points of each quarter of an hour: the borders of hours, days and weeks of all time zones are among those of quarters.';

CREATE TABLE health_metrics (
    user_id BIGINT NOT NULL,
    metric TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    record TEXT NOT NULL,
    unit TEXT,
    count BIGINT NOT NULL,
    first TIMESTAMP WITH TIME ZONE NOT NULL,
    last TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (user_id, metric, source)
);

COMMENT ON TABLE health_metrics IS 'What there is of each metric, without reading its points.';

CREATE TABLE health_history (
    id BIGSERIAL NOT NULL,
    user_id BIGINT NOT NULL,
    record TEXT NOT NULL,
    metric TEXT NOT NULL,
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    key TEXT NOT NULL,
    original TEXT NOT NULL,
    original_unit TEXT,
    value FLOAT,
    unit TEXT,
    ingest_id UUID NOT NULL,
    replaced_by UUID NOT NULL,
    replaced_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX health_history_metric ON health_history (user_id, metric, time, key);

CREATE TABLE health_quarantine (
    id BIGSERIAL NOT NULL,
    user_id BIGINT NOT NULL,
    ingest_id UUID NOT NULL,
    attempt INTEGER NOT NULL,
    type TEXT NOT NULL,
    index BIGINT,
    path TEXT NOT NULL,
    reason TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    resolved_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (id)
);

CREATE INDEX health_quarantine_ingest ON health_quarantine (ingest_id);

CREATE INDEX health_quarantine_open ON health_quarantine (user_id, ingest_id) WHERE resolved_at IS NULL;

CREATE INDEX health_quarantine_user ON health_quarantine (user_id, created_at);

CREATE TABLE health_characteristics (
    user_id BIGINT NOT NULL,
    values TEXT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    verified_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (user_id)
);

CREATE TABLE health_quality (
    id BIGSERIAL NOT NULL,
    user_id BIGINT NOT NULL,
    time TIMESTAMP WITH TIME ZONE NOT NULL,
    score FLOAT NOT NULL,
    findings TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (user_id, time)
);
