//! The table of the users. Each statement is prepared, and each value is bound.

use serde::Deserialize;
use worker::{D1Database, Env, Result};

pub(crate) struct Users(D1Database);

#[derive(Deserialize)]
pub(crate) struct User {
    /// As it was spelled at the sign-up, and so the same for every spelling.
    pub(crate) name: String,
    pub(crate) hash: String,
}

impl Users {
    pub(crate) fn from_env(env: &Env) -> Result<Self> {
        env.d1("DB").map(Self)
    }

    pub(crate) async fn find(&self, name: &str) -> Result<Option<User>> {
        let statement = self.0.prepare("SELECT name, hash FROM users WHERE name = ?1");
        statement.bind(&[name.into()])?.first(None).await
    }

    /// False if the name is taken. The database decides that, in one step: of two at once, one gets it.
    pub(crate) async fn add(&self, name: &str, hash: &str) -> Result<bool> {
        let statement = self.0.prepare(
            "INSERT INTO users (name, hash, created_at) VALUES (?1, ?2, unixepoch()) ON CONFLICT DO NOTHING RETURNING name",
        );
        Ok(statement.bind(&[name.into(), hash.into()])?.first::<String>(Some("name")).await?.is_some())
    }

    /// False if it is no longer the hash that was looked at.
    pub(crate) async fn change_hash(&self, user: &User, hash: &str) -> Result<bool> {
        let statement = self.0.prepare("UPDATE users SET hash = ?3 WHERE name = ?1 AND hash = ?2 RETURNING name");
        let values = [user.name.as_str().into(), user.hash.as_str().into(), hash.into()];
        Ok(statement.bind(&values)?.first::<String>(Some("name")).await?.is_some())
    }
}
