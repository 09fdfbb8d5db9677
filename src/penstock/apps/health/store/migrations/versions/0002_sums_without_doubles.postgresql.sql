ALTER TABLE health_points ADD COLUMN period INTEGER;

ALTER TABLE health_points ADD COLUMN counted FLOAT;

CREATE INDEX health_points_days ON health_points (user_id, metric, time) WHERE period >= 86400;

ALTER TABLE health_quarters ADD COLUMN reduced INTEGER DEFAULT '0' NOT NULL;

COMMENT ON TABLE health_quarters IS 'The points of each quarter of an hour: the borders of hours, days and weeks of all time zones are among those of quarters. Points of a day and longer are not among them.';

ALTER TABLE health_metrics ADD COLUMN period INTEGER DEFAULT '0' NOT NULL;

ALTER TABLE health_metrics ADD COLUMN span BIGINT DEFAULT '0' NOT NULL;

UPDATE health_metrics SET period = -1;

ALTER TABLE health_metrics DROP CONSTRAINT health_metrics_pkey;

ALTER TABLE health_metrics ADD PRIMARY KEY (user_id, metric, source, period);

CREATE TABLE health_priorities (
    user_id BIGINT NOT NULL,
    metric TEXT COLLATE "C" NOT NULL,
    sources TEXT NOT NULL,
    PRIMARY KEY (user_id, metric)
);

COMMENT ON TABLE health_priorities IS 'In which order the sources of a person count where they say the same time.'
