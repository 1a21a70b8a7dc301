//! What KV keeps of a session that has ended, beside its record: the names of the keys, and the keys that a session had
//! before.

use crate::{Error, Extensions, RecordKey};

/// The mark of a killed session. (An empty one is of a release before 1.)
pub(super) const KILLED: &str = "killed";

/// For so many seconds after a change of id a request may be under way that kills the session under its old id.
pub(super) const PREDECESSORS_FOR: u64 = 120;

/// The predecessors that a record can name: KV reads 100 names by one call.
pub(super) const MOST_PREDECESSORS: usize = 100;

/// Which extension names them, as `<record key>:<when its id was changed>`, with commas between.
const PREDECESSORS: &str = "predecessors";

pub(super) fn session(key: &RecordKey) -> String {
    ["session:", key.as_str()].concat()
}

pub(super) fn ended(key: &RecordKey) -> String {
    ["ended:", key.as_str()].concat()
}

pub(super) fn killed(key: &RecordKey) -> String {
    ["killed:", key.as_str()].concat()
}

/// What a session held before a sign-in, for who sends that twice: for a moment only, while its mark stays for months.
pub(super) fn kept(key: &RecordKey) -> String {
    ["kept:", key.as_str()].concat()
}

/// A key that a session had before, and when its id was changed.
pub(super) type Predecessor = (RecordKey, u64);

/// Those that a record names.
pub(super) fn predecessors(extensions: &Extensions) -> Result<Vec<Predecessor>, Error> {
    let Some(word) = extensions.get(PREDECESSORS) else { return Ok(Vec::new()) };
    let read = |part: &str| {
        let (key, moved_at) = part.split_once(':')?;
        Some((RecordKey::from_stored(key)?, moved_at.parse().ok()?))
    };
    let predecessors: Option<Vec<_>> = word.split(',').map(read).collect();
    predecessors.ok_or_else(|| Error::unreadable("a record's predecessors are not of the form that this release knows"))
}

/// Has a record name these.
pub(super) fn name(extensions: &mut Extensions, predecessors: impl Iterator<Item = Predecessor>) -> Result<(), Error> {
    let words: Vec<_> = predecessors.map(|(key, moved_at)| format!("{}:{moved_at}", key.as_str())).collect();
    if words.is_empty() {
        extensions.remove(PREDECESSORS);
        return Ok(());
    }
    extensions.set(PREDECESSORS, &words.join(","))
}
