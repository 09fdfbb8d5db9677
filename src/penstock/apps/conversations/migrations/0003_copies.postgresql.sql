ALTER TABLE conversations_files ADD COLUMN name TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE conversations_files ADD COLUMN same_as BIGINT;
CREATE INDEX conversations_files_name ON conversations_files (name);
