-- What later releases note of a session without a column of their own, as `name=value name=value`.
ALTER TABLE sessions ADD COLUMN extensions TEXT;
