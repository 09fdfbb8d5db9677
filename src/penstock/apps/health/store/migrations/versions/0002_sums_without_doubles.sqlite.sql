ALTER TABLE health_points ADD COLUMN period INTEGER;

ALTER TABLE health_points ADD COLUMN counted FLOAT;

CREATE INDEX health_points_days ON health_points (user_id, metric, time) WHERE period >= 86400;

ALTER TABLE health_quarters ADD COLUMN reduced INTEGER DEFAULT '0' NOT NULL;

ALTER TABLE health_metrics RENAME TO health_metrics_0001;

CREATE TABLE health_metrics (
    user_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    source TEXT NOT NULL,
    record TEXT NOT NULL,
    unit TEXT,
    count BIGINT NOT NULL,
    first TIMESTAMPTZ NOT NULL,
    last TIMESTAMPTZ NOT NULL,
    period INTEGER DEFAULT '0' NOT NULL,
    span BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (user_id, metric, source, period)
);

INSERT INTO health_metrics SELECT user_id, metric, source, record, unit, count, first, last, -1, 0 FROM health_metrics_0001;

DROP TABLE health_metrics_0001;

CREATE TABLE health_priorities (
    user_id INTEGER NOT NULL,
    metric TEXT NOT NULL,
    sources TEXT NOT NULL,
    PRIMARY KEY (user_id, metric)
)
