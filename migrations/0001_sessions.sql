-- web.py's table, and what we add: a version to update by, and both ends of a session's life.
-- Times are whole seconds since 1970-01-01 UTC. session_id is the SHA-256 of the id in hexadecimal.
-- nonce tells a repeated write from another's; successor is the session_id after a change of id.
-- WITHOUT ROWID: a save writes one row, and not another one into an index of the primary key.
CREATE TABLE sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    nonce INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    atime INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ip TEXT,
    successor TEXT,
    successor_until INTEGER,
    data TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- For the sweep. It costs a written row more for each write.
CREATE INDEX sessions_expires_at ON sessions (expires_at);
