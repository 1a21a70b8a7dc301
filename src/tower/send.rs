//! What makes the session layer's futures and values `Send`, as axum asks for, in a Worker, which has one thread. To be
//! deleted when worker's own are (workers-rs#861).

pub(super) use worker::send::{SendFuture, SendWrapper};
