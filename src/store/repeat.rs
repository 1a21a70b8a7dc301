//! Repeats store calls whose answer was lost: for stores on the other side of a network.
//!
//! ```
//! use edge_session::store::repeat::repeated;
//! use edge_session::{Error, Platform, Updated};
//!
//! /// Sends an update, at most three times, and says what came of it.
//! async fn update(
//!     platform: &impl Platform,
//!     send: impl AsyncFn() -> Result<Updated, Error>,
//! ) -> Result<Updated, Error> {
//!     repeated(platform, send, |failure| failure.to_string().contains("connection lost")).await?.sure()
//! }
//! # let platform = edge_session::TestPlatform::at(0);
//! # pollster::block_on(update(&platform, async || Ok(Updated::Done)))?;
//! # Ok::<(), Error>(())
//! ```

use crate::platform::random_pause;
use crate::{Error, ErrorKind, Platform, Updated};

/// Before each repetition, a random pause of at most so many milliseconds.
pub(crate) const PAUSES: [u32; 2] = [100, 400];

/// The result of a call that may have been repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<A> {
    /// Its last answer.
    pub answer: A,
    /// It was made more than once, and an earlier one may have had its effect.
    pub repeated: bool,
}

/// Makes `call`, and makes it again, at most twice, after a failure that `passes` by itself. For calls that may be made
/// twice: they recognise their own effect, or have the same one again.
///
/// # Errors
///
/// The failure of the last call.
pub async fn repeated<A, F>(
    platform: &impl Platform,
    call: impl AsyncFn() -> Result<A, F>,
    passes: impl Fn(&F) -> bool,
) -> Result<Answered<A>, F> {
    let mut repeated = false;
    for longest in PAUSES {
        match call().await {
            Err(failure) if passes(&failure) => random_pause(platform, 0, longest).await,
            settled => return settled.map(|answer| Answered { answer, repeated }),
        }
        repeated = true;
    }
    call().await.map(|answer| Answered { answer, repeated })
}

impl Answered<Updated> {
    /// The answer, unless a repetition met another's version, or nothing: then nobody knows whether the first call had
    /// been stored before.
    ///
    /// # Errors
    ///
    /// `Unavailable` in that case.
    pub fn sure(self) -> Result<Updated, Error> {
        match self {
            Self { repeated: true, answer: Updated::Stale(_) | Updated::Gone } => Err(unsure()),
            Self { answer, .. } => Ok(answer),
        }
    }
}

/// The error of a repeated write of which it is not known whether it was done before.
fn unsure() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the answer to a write was lost, and what is stored now does not tell whether it was done",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestPlatform;
    use std::cell::Cell;

    /// What a call comes to that fails so many times first, and how often it was made.
    fn after(failures: u32, passes: bool) -> (Option<bool>, u32) {
        let platform = TestPlatform::at(0);
        let calls = Cell::new(0);
        let call = async || {
            calls.set(calls.get() + 1);
            if calls.get() > failures { Ok(()) } else { Err(()) }
        };
        let answered = pollster::block_on(repeated(&platform, call, |()| passes));
        assert_eq!(platform.slept().len() as u32 + 1, calls.get(), "a pause before each repetition");
        (answered.ok().map(|answered| answered.repeated), calls.get())
    }

    #[test]
    fn a_call_is_made_three_times_at_most_and_says_whether_more_than_once() {
        assert_eq!(after(0, true), (Some(false), 1));
        assert_eq!(after(2, true), (Some(true), 3));
        assert_eq!(after(3, true), (None, 3));
        assert_eq!(after(1, false), (None, 1));
    }

    #[test]
    fn a_repeated_write_that_meets_another_is_unsure() {
        let sure = |answer, repeated| Answered { answer, repeated }.sure().map_err(|error| error.kind());
        for answer in [Updated::Done, Updated::Stale(None), Updated::Gone] {
            assert_eq!(sure(answer.clone(), false), Ok(answer));
        }
        assert_eq!(sure(Updated::Done, true), Ok(Updated::Done));
        assert_eq!(sure(Updated::Stale(None), true), Err(ErrorKind::Unavailable));
        assert_eq!(sure(Updated::Gone, true), Err(ErrorKind::Unavailable));
    }
}
