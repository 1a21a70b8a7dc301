-- Whose session a row is, what it is called where it is listed, and since when: words of the extensions, so that the writes of each
-- release keep them. Rows of nobody's are in no index of it.
ALTER TABLE sessions ADD COLUMN owner TEXT GENERATED ALWAYS AS (
    CASE WHEN instr(' ' || extensions, ' owner=') > 0
    THEN substr(extensions, instr(' ' || extensions, ' owner=') + 6, 64) END
) VIRTUAL;
ALTER TABLE sessions ADD COLUMN handle TEXT GENERATED ALWAYS AS (
    CASE WHEN instr(' ' || extensions, ' handle=') > 0
    THEN substr(extensions, instr(' ' || extensions, ' handle=') + 7, 16) END
) VIRTUAL;
ALTER TABLE sessions ADD COLUMN signed_in INTEGER GENERATED ALWAYS AS (
    CASE WHEN instr(' ' || extensions, ' signed-in=') > 0
    THEN CAST(substr(extensions, instr(' ' || extensions, ' signed-in=') + 10) AS INTEGER) END
) VIRTUAL;
CREATE INDEX sessions_owner ON sessions (owner) WHERE owner IS NOT NULL;

-- When a user's sessions were all ended, in milliseconds since 1970-01-01 UTC, and which one was spared. Kept for a day.
CREATE TABLE sessions_revocations (
    owner TEXT NOT NULL PRIMARY KEY,
    revoked_at INTEGER NOT NULL,
    spared TEXT
) STRICT, WITHOUT ROWID;
