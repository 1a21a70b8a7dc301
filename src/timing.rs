use std::fmt;

use crate::Platform;

/// What a request did with its session, and how long it took: the value of the `Server-Timing` header
/// that [`Sessions::serve`](crate::Sessions::serve) sends when `server_timing = true`.
///
/// It names no id and no data, so that a page may show it (W3C, "Server Timing", section 3.1).
///
/// ```text
/// load;desc=loaded;dur=2, handler;dur=0, save;desc=saved;dur=3, attempts;desc=1
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Whether the visitor's session was found, rather than made.
    pub loaded: bool,
    /// What was stored.
    pub effect: Effect,
    /// How often the handler ran: once, and once more for each lost race.
    pub attempts: u32,
    /// Milliseconds spent on finding the session, all attempts together, and on pauses between them.
    pub load: u64,
    /// Milliseconds in the handler, all attempts together.
    pub handler: u64,
    /// Milliseconds spent on storing, all attempts together.
    pub save: u64,
}

/// What a request did in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing was written.
    #[default]
    Nothing,
    /// A new session was stored.
    Created,
    /// Its data was replaced.
    Saved,
    /// Its use was noted, and nothing else.
    Touched,
    /// It went to a new id.
    Moved,
    /// It was deleted.
    Killed,
    /// Another request had killed it, and what this one changed was dropped.
    Dropped,
}

impl Effect {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Created => "created",
            Self::Saved => "saved",
            Self::Touched => "touched",
            Self::Moved => "moved",
            Self::Killed => "killed",
            Self::Dropped => "dropped",
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loaded, effect, attempts, load, handler, save } = self;
        let found = if *loaded { "loaded" } else { "new" };
        let did = effect.as_str();
        write!(
            formatter,
            "load;desc={found};dur={load}, handler;dur={handler}, save;desc={did};dur={save}, attempts;desc={attempts}"
        )
    }
}

/// Measures one span after another, if it is on: each look at the clock costs a call into the runtime.
pub(crate) struct Stopwatch<'a> {
    platform: Option<&'a dyn Platform>,
    last: u64,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn started(platform: &'a dyn Platform, on: bool) -> Self {
        let platform = on.then_some(platform);
        Self { platform, last: platform.map_or(0, Platform::milliseconds) }
    }

    /// The milliseconds since the last lap; 0 when it is off.
    pub(crate) fn lap(&mut self) -> u64 {
        let now = self.platform.map_or(0, Platform::milliseconds);
        let lap = now.saturating_sub(self.last);
        self.last = now;
        lap
    }
}
