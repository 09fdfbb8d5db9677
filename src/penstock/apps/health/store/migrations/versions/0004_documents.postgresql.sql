ALTER TABLE health_points ALTER COLUMN fields TYPE JSONB USING CAST(fields AS jsonb), ALTER COLUMN warnings TYPE JSONB USING CAST(warnings AS jsonb);

ALTER TABLE health_workouts ALTER COLUMN fields TYPE JSONB USING CAST(fields AS jsonb), ALTER COLUMN warnings TYPE JSONB USING CAST(warnings AS jsonb);

ALTER TABLE health_series ALTER COLUMN fields TYPE JSONB USING CAST(fields AS jsonb), ALTER COLUMN warnings TYPE JSONB USING CAST(warnings AS jsonb);

ALTER TABLE health_routes ALTER COLUMN fields TYPE JSONB USING CAST(fields AS jsonb), ALTER COLUMN warnings TYPE JSONB USING CAST(warnings AS jsonb);

ALTER TABLE health_ingests ALTER COLUMN headers TYPE JSONB USING CAST(headers AS jsonb), ALTER COLUMN types TYPE JSONB USING CAST(types AS jsonb), ALTER COLUMN warnings TYPE JSONB USING CAST(warnings AS jsonb);

ALTER TABLE health_priorities ALTER COLUMN sources TYPE JSONB USING CAST(replace(sources, '\u0000', '') AS jsonb);

ALTER TABLE health_quality ALTER COLUMN findings TYPE JSONB USING CAST(findings AS jsonb);

DELETE FROM health_parts p WHERE NOT EXISTS (SELECT 1 FROM health_ingests i WHERE i.id = p.ingest_id);

DELETE FROM health_quarantine q WHERE NOT EXISTS (SELECT 1 FROM health_ingests i WHERE i.id = q.ingest_id);

ALTER TABLE health_parts ADD FOREIGN KEY (ingest_id) REFERENCES health_ingests (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;

ALTER TABLE health_quarantine ADD FOREIGN KEY (ingest_id) REFERENCES health_ingests (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
