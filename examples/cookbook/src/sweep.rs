//! The sweep for D1, which a cron trigger calls: a module of README.md's and docs/cookbook.md's Worker.

use edge_session::{Error, Sessions, Swept};
use worker::{Env, ScheduleContext, ScheduledEvent, event};

#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match sweep(&env).await {
        Ok(swept) => worker::console_log!("edge-session: swept: {} deleted, {} left", swept.deleted, swept.left),
        Err(error) => worker::console_error!("edge-session: {}: the sweep failed: {error}", error.kind().as_str()),
    }
}

async fn sweep(env: &Env) -> Result<Swept, Error> {
    Sessions::from_env(env)?.delete_expired().await
}
