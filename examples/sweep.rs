//! The sweep for D1, which a cron trigger calls: a module of README.md's and docs/cookbook.md's Worker.

use edge_session::{Error, Sessions};
use worker::{Env, ScheduleContext, ScheduledEvent, event};

#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    if let Err(error) = sweep(&env).await {
        worker::console_error!("sweeping: {error}");
    }
}

async fn sweep(env: &Env) -> Result<u64, Error> {
    Sessions::from_env(env)?.delete_expired().await
}
