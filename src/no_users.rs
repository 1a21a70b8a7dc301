//! What the compiler says to who asks for a user's sessions without the feature `users`.

use crate::Sessions;

/// Nothing is one.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`Sessions::of` needs edge-session's feature `users`",
    label = "write `features = [\"users\"]` for edge-session in Cargo.toml"
)]
pub trait User {}

impl Sessions {
    #[doc(hidden)]
    pub fn of(&self, user: impl User) {
        let _ = (self, user);
    }
}
