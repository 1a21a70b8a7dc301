-- Who has an account. NOCASE: "Ada" and "ada" are one name (of A to Z; SQLite folds no other letters).
-- hash is Argon2's, with its salt and parameters, in the PHC string format. created_at is in seconds since 1970-01-01 UTC.
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    hash TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
