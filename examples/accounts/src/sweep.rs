//! The sweep for D1, which a cron trigger calls.

use edge_session::{Error, Sessions, Swept};
use worker::{Env, ScheduleContext, ScheduledEvent, console_error, console_log, event};

#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match sweep(&env).await {
        Ok(swept) => console_log!("accounts: {} expired sessions deleted, {} left", swept.deleted, swept.left),
        Err(error) => console_error!("accounts: sweeping: {error}"),
    }
}

async fn sweep(env: &Env) -> Result<Swept, Error> {
    Sessions::from_env(env)?.delete_expired().await
}
