// Takes each rule of the session layer out, one at a time, and sees that a test fails: `make test-mutants`. A rule that can
// be taken out unnoticed is no rule. Each mutant replaces a text that stands once in a file; where it stands there no more,
// the mutant is to be written anew with the code.
//
// Built and run natively, in folders of their own below target/mutants, two at a time. One that a test has caught is built again when
// something that it is made of has changed, or when it is asked for by name.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";

// The rule; the file; what stands there and what the mutant has; the test file, or `lib`, and the test, or a part of its name. For the
// explorer, the scenario that needs the rule.
const mutants = [
  // Retired ids.
  ["for thirty seconds the holder of an old id is a straggler", "src/sessions.rs", "Loaded::Retired { kept } => retired = Some((signed, kept)),", "Loaded::Retired { kept } => retired = Some((signed, kept)).filter(|_| false),", "new_id", "for_thirty_seconds_a_straggler"],
  ["what a straggler asks to be saved has ended", "src/session.rs", "State::Retired { .. } => self.intent != Intent::NewId,", "State::Retired { .. } => false,", "new_id", "for_thirty_seconds_a_straggler"],
  ["a straggler's own change of id begins a session", "src/session.rs", "State::Retired { .. } => self.intent != Intent::NewId,", "State::Retired { .. } => true,", "new_id", "a_login_that_is_sent_twice"],
  ["the grace is over after thirty seconds", "src/backing.rs", "Some(successor) if now < successor.until => Loaded::Retired {", "Some(_) if now > 0 => Loaded::Retired {", "new_id", "after_thirty_seconds_the_old_id"],
  ["a logout follows the session to its new id", "src/backing.rs", "next = successor.map(|successor| successor.key);", "next = successor.map(|successor| successor.key).filter(|_| false);", "explorer", "a logout, a login and a count"],
  ["a thief's logout leaves no mark", "src/sessions.rs", "Loaded::Former => {\n                    self.log_former(&signed.key);", "Loaded::Former => {\n                    dead = Some(signed);\n                    self.log_former(&signed.key);", "kv", "a_logout_by_a_thief_with_the_old_id_ends_nothing"],
  ["a request under way at the login is a straggler, whose logout follows", "src/sessions.rs", "Loaded::Former => Session::retired(&backing, signed.key.clone(), NOTHING.to_owned()),", "Loaded::Former => Session::new(&backing, None),", "new_id", "a_logout_in_a_second_run"],
  ["a request under way at the logout begins nothing", "src/sessions.rs", "Loaded::Absent => Session::ended(&backing, key()),", "Loaded::Absent => Session::new(&backing, None),", "new_id", "under_way_at_a_login_or_a_logout"],
  ["a request that runs again stays with its session", "src/sessions.rs", "session = self.reopen(session).await?,", "{\n                    let Opened::Session(again) = self.open_for::<T>(&arrival).await? else { return Ok(self.ended()) };\n                    session = again;\n                }", "cookies", "stays_with_its_session"],
  ["a logout that has to be tried again finds where the session went", "src/store/memory.rs", "if successor.is_none() {", "if true {", "explorer", "two logouts and a login"],
  ["what has ended is not begun anew by a change of id", "src/session.rs", "State::Ended { .. } => true,", "State::Ended { .. } => self.intent != Intent::NewId,", "explorer", "a logout and a login after an update"],
  ["the use of a retired id is logged once", "src/log.rs", "if said.note(event, key) {", "if said.note(event, key) || true {", "new_id", "its_use_is_logged_once"],
  ["no data stays behind under the old id", "src/session.rs", "_ => NOTHING,", "_ => &*next.data,", "new_id", "leaves_the_old_id_nothing"],
  ["a new session is not moved at once", "src/session.rs", "        // A session that has just begun has a new id.\n        self.intent = Intent::Keep;", "", "new_id", "created_once_and_not_moved"],
  ["a login whose answer is lost is logged", "src/session.rs", "if changed.is_err() {", "if false {", "explorer", "a slow logout"],
  // Cookies.
  ["a save of a known session sets no cookie", "src/session.rs", "if *cookie == Cookie::Ageing && next.touched_at > record.touched_at {\n                *cookie = Cookie::Noted;", "if *cookie == Cookie::Known {\n                *cookie = Cookie::Due;", "explorer", "counts"],
  ["a cookie is renewed only where the session still is", "src/session.rs", "*cookie == Cookie::Noted && matches!(self.backing.load(key).await, Ok(Loaded::Live(_)))", "*cookie == Cookie::Noted", "cookies", "a_cookie_is_not_renewed_when_the_id_was_changed"],
  ["whatever the order in which it ended", "src/session.rs", "*cookie == Cookie::Noted && matches!(self.backing.load(key).await, Ok(Loaded::Live(_)))", "*cookie == Cookie::Noted", "explorer", "a key that is being retired"],
  ["several signed cookies are tried", "src/cookie.rs", "const MOST: usize = 3;", "const MOST: usize = 1;", "cookies", "a_dead_cookie_beside_a_live_one"],
  ["no more than three are", "src/cookie.rs", "const MOST: usize = 3;", "const MOST: usize = 9;", "cookies", "no_more_than_three"],
  ["of two live sessions the first counts", "src/sessions.rs", "if live.is_some() {", "if false {", "cookies", "of_two_live_sessions_the_first_counts"],
  ["a cookie whose data cannot be read hides no live one", "src/sessions.rs", "None => dead = dead.or(Some(signed)),", "None => live = Some(Session::new(backing, Some(signed.key.clone()))),", "cookies", "hides_no_live_one"],
  ["a dead cookie that stays locks nobody out", "src/sessions.rs", "if is_refused && !arrival.was_told =>", "if is_refused =>", "cookies", "locks_nobody_out"],
  ["another address's session is not what a logout removes", "src/sessions.rs", "Loaded::Live(record) if !self.admits(arrival, &record) => is_refused = true,", "Loaded::Live(record) if !self.admits(arrival, &record) => {\n                    is_refused = true;\n                    dead = Some(signed);\n                }", "cookies", "stays_whatever_its_thief_sends"],
  ["a cookie of a key that is being retired is signed anew", "src/sessions.rs", "false if backing.arrival.has_reply => Cookie::Noted,\n                    false => Cookie::Ageing,", "false => Cookie::Known,", "cookies", "keys_rotate_in_three_steps"],
  ["with the next reply", "src/sessions.rs", "false if backing.arrival.has_reply => Cookie::Noted,", "", "cookies", "goes_again_with_the_next_reply"],
  ["a message takes no renewal from a reply", "src/session.rs", "_ if self.arrival().has_reply => usual.min(LONGEST_COOKIE / 10),\n            _ =>", "_ if true => usual.min(LONGEST_COOKIE / 10),\n            _ =>", "halves", "take_no_renewal_from_a_reply"],
  ["who only sends messages keeps the session", "src/session.rs", "usual.saturating_mul(2).min(parameters.timeout / 2).max(usual)", "usual.saturating_mul(9)", "halves", "take_no_renewal_from_a_reply"],
  ["a browser keeps no cookie for years", "src/session.rs", "usual.min(LONGEST_COOKIE / 10)", "usual", "cookies", "of_a_session_of_years"],
  ["a cookie that ends before its session goes again", "src/sessions.rs", " || sign_in::outlives_a_cookie(&record) =>", " =>", "sign_in", "longer_than_a_browser_keeps"],
  ["a session that is bound to no address is bound at its next use", "src/session.rs", "let binds = ip.is_some() && record.ip.is_none();", "let binds = false;", "cookies", "bound_at_their_next_use"],
  ["and not refused", "src/sessions.rs", "record.ip.is_none() || record.ip == arrival.ip", "record.ip == arrival.ip", "cookies", "bound_at_their_next_use"],
  ["a name that begins with 127. is no address", "src/connection.rs", "v4.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())", 'v4.starts_with("127.")', "cookies", "a_cookie_that_clients_drop_is_said_once"],
  ["a visitor on this machine is, whatever the URL's host", "src/connection.rs", "|| ip.is_some_and(is_loopback_address)", "", "cookies", "on_this_machine_the_cookie"],
  ["a cookie that clients drop is said", "src/sessions.rs", "if let Some(objection) = cookie::objection(parameters, &connection) {", "if let Some(objection) = cookie::objection(parameters, &connection).filter(|_| false) {", "cookies", "a_cookie_that_clients_drop_is_said_once"],
  ["what runs again asks for the address too", "src/sessions.rs", "Loaded::Live(record) if !self.admits(&backing.arrival, &record) => Session::ended(&backing, None),", "", "cookies", "bound_to_another_address_meanwhile"],
  ["and so does an update", "src/session.rs", "if is_bound && newer.ip.is_some()", "if false && is_bound && newer.ip.is_some()", "cookies", "bound_to_another_address_meanwhile"],
  ["a store that fails is no empty session", "src/backing.rs", "            Err(error) => Err(error),\n        }", "            Err(_) => Ok(Loaded::Absent),\n        }", "explorer", "counts and looks, all lost"],
  // Sign-ins.
  ["who signs in again keeps the handle", "src/session.rs", "self.sign_in_by_now().filter(|sign_in| sign_in.user == user)", "self.sign_in_by_now().filter(|_| false)", "sign_in", "the_same_handle"],
  ["a sign-in counts as a beginning", "src/parameters.rs", "sign_in::time_of(record).unwrap_or(record.created_at)", "record.created_at", "sign_in", "its_end_counts_from"],
  ["who is remembered is so when the browser is closed", "src/sessions.rs", "is_kept || parameters.persistent", "parameters.persistent", "sign_in", "one_that_is_remembered"],
  ["no timeout ends who is remembered", "src/parameters.rs", "        sign_in::end_of(record).unwrap_or_else(|| {", "        sign_in::end_of(record).filter(|_| false).unwrap_or_else(|| {", "sign_in", "one_that_is_remembered"],
  ["a basket is kept for a form that is sent twice", "src/session.rs", "let kept = Some(kept).filter(|kept| kept != NOTHING);", "let kept = Some(kept).filter(|_| false);", "sign_in", "finds_the_basket_again"],
  ["but nothing that was somebody's", "src/session.rs", "if self.signing_in.is_some() && self.signed_in.is_none() && next", "if self.signing_in.is_some() && next", "sign_in", "that_had_an_owner"],
  ["a sign-in of a session that ended is no welcome", "src/session.rs", "if self.signing_in.is_some() && self.intent != Intent::End {", "if false {", "sign_in", "is_a_401_and_not"],
  ["another user has a label of their own", "src/session.rs", "before.user != sign_in.user", "false", "sign_in", "a_label_of_its_own"],
  ["another user finds nothing of who was signed in before", "src/session.rs", "            **self = T::default();\n", "", "sign_in", "finds_nothing_of_theirs"],
  ["also of who was signed in by the same request", "src/session.rs", "if self.sign_in_by_now().is_some_and(|before| before.user != user) {", "if self.signed_in.as_ref().is_some_and(|before| before.user != user) {", "sign_in", "finds_nothing_of_theirs"],
  ["a sign-in under way does not survive the end of all", "src/store/users.rs", "claim.began_at <= self.at &&", "false &&", "users", "does_not_survive"],
  ["but the one that is spared may", "src/store/users.rs", " && self.spared.as_ref() != Some(&claim.handle)", "", "users", "a_forgotten_password"],
  ["of other sessions a failure is answered as what it is", "src/session.rs", "self.refused.iter().chain(&*elsewhere).find(", "self.refused.iter().find(", "users", "answered_as_what_it_is"],
  ["on objects, what is to end is not confirmed", "src/store/user_list.rs", "let is_listed = |key: &RecordKey| self.entry(key).filter(|entry| entry.state == State::Listed);", "let is_listed = |key: &RecordKey| self.entry(key);", "explorer", "the end of all and two sign-ins"],
  ["a session whose id is being changed is left on the list", "src/store/user_list.rs", "self.note(key, &moving.handle, since, now)", "self.note(key, &moving.handle, since, since)", "lib", "while_an_id_is_changed"],
  ["a new id makes no session younger", "src/store/user_list.rs", "saturating_mul(1000), |entry| entry.since);", "saturating_mul(1000), |_| now);", "lib", "younger_than_another"],
  ["what has ended ends no others", "src/store/user_list.rs", "entry.state != State::Listed && Some(", "entry.state == State::Condemned && Some(", "lib", "who_is_ended_while"],
  ["a key leads to no other session of its user's", "src/store/user_objects.rs", "                    && handle.is_none_or(|handle| SessionHandle::of_record(&record).as_ref() == Some(handle));", ";", "lib", "who_signed_in_again_after_another_user"],
  ["nor does it in any order", "src/store/user_objects.rs", "                    && handle.is_none_or(|handle| SessionHandle::of_record(&record).as_ref() == Some(handle));", ";", "explorer", "the end of the others after another user"],
  ["one more ends one, in any order", "src/backing.rs", "users.end_oldest(&claim, most,", "users.end_oldest(&claim, most + 1,", "explorer", "sign-ins with room for one"],
  ["what was to end ends with the next sign-in", "src/store/user_objects.rs", "let ended = end(objects, &claim.user, &left).await;", "let ended: Result<u64, Error> = Ok(left.len() as u64 * 0);", "lib", "ends_with_the_next_sign_in"],
  ["a session is listed once while its id is changed", "src/store/user_objects.rs", "listed.iter_mut().find(|(_, other)| is_same(&session, other))", "listed.iter_mut().find(|(_, other)| false && is_same(&session, other))", "lib", "is_listed_once"],
  ["who comes late ends no newer one in its place", "src/store/user_list.rs", "listed.sort_by_key(|entry| entry.since);", "", "lib", "of_too_many|whoever_is_slow|younger_than_another"],
  ["who is being signed in again is not the oldest", "src/store/user_list.rs", "Some(other) if other.since < entry.since => *other = entry,", "", "lib", "is_being_signed_in_again"],
  ["what was noted for an id that came to nothing goes", "src/store/user_list.rs", "let gone: Vec<_> = others.map(", "let gone: Vec<_> = others.take(0).map(", "lib", "came_to_nothing"],
  ["unless it comes late", "src/store/user_list.rs", "if is_listed(before).is_some() {", "if true {", "lib", "that_is_noted_late"],
  ["a session that an old key leads to is listed", "src/store/user_objects.rs", "None => listed.push((key.clone(), session)),", "None if new.is_some() => {}\n                        None => listed.push((key.clone(), session)),", "lib", "changed_twice_at_once"],
  ["whatever the look at its new key has found", "src/store/user_objects.rs", "None => listed.push((key.clone(), session)),", "None if new.is_some_and(|new| ends_of_each(entries).any(|other| other.key == new.key)) => {}\n                        None => listed.push((key.clone(), session)),", "explorer", "a list and new ids"],
  ["an old key stays until its change is confirmed", "src/store/user_objects.rs", "if now >= new.noted_at.saturating_add(IN_THE_MAKING) {", "if true {", "lib", "a_look_before_a_change_of_id_is_confirmed"],
  ["or nobody will", "src/store/user_objects.rs", "if now >= new.noted_at.saturating_add(IN_THE_MAKING) {", "if false {", "lib", "that_nobody_confirms"],
  ["with what came to nothing", "src/store/user_objects.rs", "before.filter(|other| other.handle == entry.handle)", "before.filter(|other| other.key == entry.key)", "lib", "that_nobody_confirms"],
  ["an old key that is noted late goes at once", "src/store/user_objects.rs", "if entry.noted_at > new.noted_at {", "if false {", "lib", "that_is_noted_late_makes"],
  ["the oldest is found also when its id was changed since", "src/store/user_objects.rs", "alive.contains(&entry.handle.as_str()) ||", "", "explorer", "room for one, and a new id"],
  ["what came to nothing hides nobody", "src/store/user_objects.rs", "(!is_between).then_some(entry)", "(!is_between || true).then_some(entry)", "lib", "hide_no_other_session"],
  ["and is not shown in its session's place", "src/store/user_objects.rs", "Some((_, other)) if other.1.touched_at < session.1.touched_at => *other = session,", "Some((_, other)) if other.1.touched_at <= session.1.touched_at => *other = session,", "lib", "is_listed_once_and_goes_on"],
  ["and so in memory", "src/store/memory.rs", "(sign_in::time_of(record), is_claimed(record))", "(is_claimed(record), sign_in::time_of(record))", "store_conformance", "memory_store_conforms"],
  ["its mark on KV holds nothing of a basket", "src/store/kv/visit.rs", "let mark = Record { data: NOTHING.to_owned(), ..retired.clone() };", "let mark = retired.clone();", "kv", "gone_in_minutes"],
  ["it lives as long as what a late writer may leave", "src/store/kv/visit.rs", "self.end_of_mark(Some(&written.record)).max(self.end_of_mark(Some(moved)))", "self.end_of_mark(Some(retired))", "kv", "lives_as_long_as"],
  ["what is kept is there before the mark", "src/store/kv/visit.rs", "        self.keep_behind(from, retired).await;\n        self.create(to, moved).await?;\n", "        self.create(to, moved).await?;\n", "kv", "gone_in_minutes"],
  ["which is kept beside it for a moment", "src/store/kv/visit.rs", "if retired.data == NOTHING && retired.successor", "if false && retired.successor", "kv", "gone_in_minutes"],
  ["but not that of another change", "src/store/kv/visit.rs", "found.filter(|found| found.is_same_write(&retired))", "found.filter(|_| true)", "kv", "what_another_change_of_the_id"],
  ["and is ended by who finds that out", "src/store/user_objects.rs", "    objects.delete(key).await?;\n    Ok(Updated::Gone)", "    Ok(Updated::Gone)", "explorer", "the end of all, answers lost"],
  // Requests of other sites.
  ["another site's post is refused", "src/cross_origin.rs", '(_, Some(site)) => !["same-origin", "none"].contains(&site),', "(_, Some(_)) => false,", "cross_origin", "is_refused_before"],
  ["and where only the origin is known", "src/cross_origin.rs", "(Some(origin), None) => !is_of_host(origin, incoming.url),", "(Some(_), None) => false,", "axum", "a_socket_that_another_sites"],
  ["a socket is no look", "src/cross_origin.rs", "if is_safe && !incoming.opens_socket {", "if is_safe {", "axum", "a_socket_that_another_sites"],
  ["a look is never refused", "src/cross_origin.rs", '["GET", "HEAD", "OPTIONS"].contains(&method)', "false && method.is_empty()", "cross_origin", "its_link_is_followed"],
  ["a trusted site's is not", "src/cross_origin.rs", "(Some(origin), _) if is_trusted(origin) => false,", "", "cross_origin", "a_trusted_sites_post"],
  ["nor is a route's that says so", "src/tower/slot.rs", "if senders == Senders::ThisSite {", "if true {", "axum", "what_a_page_of_another_site"],
  ["a session opened by halves is judged as well", "src/sessions.rs", "        self.check_site(&arrival)?;\n        self.open_for(&arrival).await", "        self.open_for(&arrival).await", "cross_origin", "is_refused_before"],
  // Saves.
  ["a save of a session that has ended says so", "src/session.rs", "Effect::Dropped => Err(Error::ended()),", "Effect::Dropped => Ok(()),", "saves", "says_ended_and_is_answered_401"],
  ["its 401 leaves the cookie alone", "src/sessions.rs", "ErrorKind::Ended => return Ok(self.ended()),", "ErrorKind::Ended => {\n                    let Opened::<T>::Expired { message, set_cookie } = self.expired(&arrival) else { continue };\n                    return Ok(Outcome::Expired { message, set_cookie });\n                }", "saves", "says_ended_and_is_answered_401"],
  ["what may be stored is not saved again", "src/session.rs", "Asked::ByUpdate | Asked::BySave => Progress::Unsure,", "Asked::ByUpdate | Asked::BySave => before,", "explorer", "a handler that goes on"],
  ["an update that cannot load again runs its handler once", "src/session.rs", "let progress = std::mem::replace(&mut self.progress, Progress::Saved);", "let progress = self.progress;", "saves", "runs_once_as_well"],
  ["and leaves nothing of its change", "src/session.rs", "            self.undo();\n            let progress", "            let progress", "saves", "runs_its_handler_once"],
  ["nor is anything stored over what it cannot read", "src/session.rs", "                    Err(error) => {\n                        self.end();\n", "                    Err(error) => {\n", "saves", "that_cannot_be_read_stores_nothing"],
  ["a repeated write that meets another's is an error", "src/store/repeat.rs", "Self { repeated: true, answer: Updated::Stale(_) | Updated::Gone } => Err(unsure()),", "", "explorer", "counts, answers lost"],
  ["a handler that hides a failed save has its own error", "src/error.rs", "Arc::strong_count(copies) > 1", "Arc::strong_count(copies) > 0", "saves", "has_its_own_error"],
  ["a hidden failure is logged", "src/log.rs", ".into_iter().filter(|error| !error.is_answered())", ".into_iter().filter(|_| false)", "saves", "has_its_own_error"],
  ["what is saved is not done again", "src/session.rs", "if self.progress == Progress::Open {\n                    self.progress = Progress::Saved;\n                }", "", "explorer", "a handler that goes on"],
  ["a handler within a handler is found", "src/sessions.rs", "self.shared.nesting.check(&arrival)?;", "", "saves", "told_so_at_once"],
  ["concurrent requests are no nesting", "src/nesting.rs", "let _left = Left(self);", "", "saves", "are_no_nesting"],
  // Data.
  ["compared with the data as it was loaded", "src/session.rs", "(unchanged, _) => unchanged.is_some(),", "(_, State::Stored { record, .. }) => *data == record.data,\n            (unchanged, _) => unchanged.is_some(),", "data", "never_with_the_stored_text"],
  ["what is only looked at is not compared", "src/session.rs", "if self.unchanged.is_none() && !thorough {", "if self.unchanged.is_none() && matches!(self.state, State::New { .. }) && !thorough {", "explorer", "saves of nothing"],
  ["a save compares in any case", "src/session.rs", "self.changed(asked == Asked::BySave);", "self.changed(false);", "data", "inside_a_cell"],
  ["a save of nothing leaves another release's words", "src/session.rs", "*data == record.data || Self::reads_as(&record.data, data),", "*data == record.data,", "data", "leaves_what_another_release_stored"],
  ["a change that is too large is taken back", "src/session.rs", "                        self.undo();\n                    }\n                    return Err(error);", "                    }\n                    return Err(error);", "saves", "is_taken_back"],
  ["the absolute timeout ends a session in its handler", "src/session.rs", "is_some_and(|end| now >= end)", "is_some_and(|end| now >= end && false)", "saves", "after_the_absolute_timeout"],
  ["a killed session takes no update", "src/session.rs", "if self.intent == Intent::End {\n                return Err(Error::ended());\n            }", "", "saves", "an_update_after_a_kill"],
  ["what is stored is read back first", "src/session.rs", "serde_json::from_str::<T>(&data).map_err(|error| Error::data_would_be_lost(&error))?;", "", "data", "data_that_could_not_be_read_again"],
  ["data has a most size", "src/session.rs", "if data.len() as u64 > most {", "if false {", "data", "larger_than_max_data"],
  ["numbers come back as they were", "Cargo.toml", 'features = ["float_roundtrip"]', "features = []", "data", "a_number_comes_back"],
  ["the log quotes no data", "src/error.rs", 'Self::unreadable(format_args!("its data is not of the session\'s type: {}", Place(error)))', 'Self::unreadable(format_args!("its data is not of the session\'s type: {error}"))', "data", "the_log_quotes_no_data"],
  ["who lost a race waits for its turn", "src/queue.rs", "if others.is_none_or(|lasts| lasts > LONGEST_TURN) && before < FRONT {", "if before < usize::MAX {", "simulation", "many_clients_on_one_session"],
  ["turns are taken in the order of coming", "src/queue.rs", "&& before < FRONT {", "{", "simulation", "many_clients_on_one_session"],
  ["a turn that is not ended holds up nobody", "src/queue.rs", "lasts > LONGEST_TURN", "lasts > LONGEST_WAIT", "simulation", "a_handler_that_hangs"],
  ["nor does one who waits no more", "src/queue.rs", "first.looks_at.saturating_add(PATIENCE) < now", "first.looks_at == now + 1", "simulation", "who_leaves"],
  ["who would wait too long is told so", "src/queue.rs", "saturating_sub(self.since) >= LONGEST_WAIT {", "saturating_sub(self.since) >= u64::MAX - pause {", "simulation", "who_has_waited_too_long"],
  ["a look at a second cookie says nothing of the first", "src/sessions.rs", "if let Ok(Loaded::Live(_)) = backing.load(&signed.key).await {", "if let Ok(Loaded::Live(record)) = backing.load(&signed.key).await {\n            backing.saw(record.version);", "simulation", "who_has_a_second_session"],
  ["other isolates get their turn", "src/queue.rs", "self.gives_way.saturating_mul(3).min(LONGEST_PAUSE)", "0", "simulation", "clients_of_several_isolates"],
  ["who comes gives way to those who wait", "src/session.rs", "if self.may_run_again() && backing.gives_way(key) {", "if false {", "simulation", "many_clients_on_one_session"],
  ["but not one whose handler runs once", "src/backing.rs", "self.is_in_a_run.get()\n            && self", "self", "halves", "waits_for_nobody"],
  ["but not who has waited", "src/backing.rs", "            && self.place.borrow().is_none()\n", "", "simulation", "many_clients_on_one_session"],
  ["who has its turn goes on from what was stored before", "src/queue.rs", "self.newest = Some((record.clone(), now));", "", "simulation", "many_clients_on_one_session"],
  ["a lost race is tried again on what it was lost to", "src/backing.rs", "self.lost_to.replace(to.map(|record| (record, self.platform.milliseconds())));", "drop(to);", "life_of_a_request", "loses_the_race_runs_again"],
  ["a sign-in keeps its name when its handler runs again", "src/session.rs", "self.backing.next_handle.replace(Some(handle.clone()));", "", "users", "a_forgotten_password"],
  ["what is kept is as it was loaded", "src/session.rs", "self.loaded.as_deref().unwrap_or(&record.data)", "&*record.data", "sign_in", "as_loaded_and_not_as"],
  ["what is retired ends when it says", "src/record.rs", "if next.successor.is_some() { next.clone() } else { self.touch(next.clone()) }", "self.touch(next.clone())", "sign_in", "is_kept_for_a_day"],
  ["an end of others is the session's own as long as it is there", "src/session.rs", "Ok(Spared::Session(claim(sign_in.handle.clone()), key.clone()))", "Ok(Spared::SigningIn(claim(sign_in.handle.clone())))", "users", "ends_no_others"],
  ["who goes to and fro loses no last write", "src/store/kv/known.rs", "others_turn.saturating_add(room / 3).max(now.saturating_add(ONCE_MORE_WITHIN / 2));", "now.saturating_add(ONCE_MORE_WITHIN).max(room.min(0));", "simulation", "to_and_fro"],
  ["and each of its writes has a turn of its own", "src/store/kv/known.rs", ".filter(|_| is_of_here)", "", "simulation", "to_and_fro"],
  ["unknown words are written back", "src/record.rs", "if !extensions.is_empty() {\n            line", "if false {\n            line", "simulation", "of_another_release"],
  ["a new id keeps what another release stored", "src/session.rs", "None => next.data,", "None => to_json(&self.data)?,", "data", "lose_nothing_of_each_others"],
  // Notes of use.
  ["a note of use fails nobody", "src/session.rs", "return Ok(self.touch(&key, next, asked).await);", "self.backing.touch(&key, &next).await?;", "touch", "a_log_line_and_nobodys_error"],
  ["a note of use shortens no session", "src/record.rs", "expires_at: other.expires_at.max(self.expires_at),", "expires_at: other.expires_at,", "store_conformance", "memory_store_conforms"],
  ["a note of use is no new version", "src/session.rs", "match self.backing.touch(key, &touched).await {", "let touched = Record { version: touched.version + 1, ..touched };\n        match self.backing.update(key, &touched).await {", "explorer", "a slow logout"],
  ["an update takes no later note back", "src/record.rs", "self.touch(next.clone())", "next.clone()", "store_conformance", "memory_store_conforms"],
  ["a raised timeout counts at once", "src/parameters.rs", "saturating_sub(self.ends_at(record));", "saturating_sub(self.expires_at(record, record.touched_at));", "touch", "a_raised_timeout"],
  ["on KV a note of use gives way", "src/store/kv/visit.rs", "if !written.record.is_same_write(record) || self", "if self", "kv", "a_touch_gives_way"],
  // KV.
  ["a change of id is a mark", "src/store/kv/visit.rs", "        self.kv.put(&ended(from), &mark.to_text(), until).await?;\n        self.remove_behind(from).await;\n", "        self.kv.put(&session(from), &mark.to_text(), retired.expires_at).await?;\n", "kv", "does_not_bring_the_old_id_back"],
  ["a kill leaves a mark that a change of id cannot hide", "src/store/kv/visit.rs", "self.mark(killed(key), until).await?;", "", "explorer", "a logout, a login and a count"],
  ["a session that moved asks for it", "src/store/kv/visit.rs", "if self.was_killed_before(&mut record).await? {", "if false {", "explorer", "a logout, a login and a count"],
  ["the mark of a logout is read with the record", "src/store/kv/visit.rs", "if let Some(mark) = mark {", "if let Some(mark) = mark.filter(|_| false) {", "explorer", "a voucher and a logout"],
  ["429 on a mark may mean that it is there", "src/store/kv/visit.rs", "iter().any(Option::is_some) {\n                return Ok(());", "iter().any(|_| false) {\n                return Ok(());", "kv", "a_logout_is_done_with_its_marks"],
  ["and may mean that it is not", "src/store/kv/visit.rs", "iter().any(Option::is_some) {\n                return Ok(());", "iter().any(|_| true) {\n                return Ok(());", "kv", "a_logout_is_done_with_its_marks"],
  ["what the store has noted of a change of id is written on", "src/session.rs", "backing.change_id(&old, &retired, &key, &mut moved)", "backing.change_id(&old, &retired, &key, &mut moved.clone())", "kv", "still_names_the_predecessor"],
  ["what follows the marks may fail", "src/store/kv/visit.rs", "self.remove_behind(key).await;", "self.kv.namespace.delete(&session(key)).await?;", "kv", "a_logout_is_done_with_its_marks"],
  ["429 on a write is tried again", "src/store/kv/write.rs", "const TRIED_FOR: u64 = 4_500;", "const TRIED_FOR: u64 = 50;", "kv", "tried_again_for_less_than_five"],
  ["marks outlive what a late writer leaves", "src/store/kv/visit.rs", "life.saturating_mul(2).max(LEAST_LIFE_OF_A_MARK)", "life", "kv", "does_not_bring_the_old_id_back"],
  ["predecessors are named for two minutes", "src/store/kv/marks.rs", "const PREDECESSORS_FOR: u64 = 120;", "const PREDECESSORS_FOR: u64 = 119;", "kv", "two_minutes_after_a_change_of_id"],
  ["and no longer", "src/store/kv/marks.rs", "const PREDECESSORS_FOR: u64 = 120;", "const PREDECESSORS_FOR: u64 = 121;", "kv", "two_minutes_after_a_change_of_id"],
  // The halves.
  ["who commits again what may be stored is told so", "src/session.rs", "_ if self.progress == Progress::UnsureAtTheEnd => Err(unsure()),", "", "halves", "a_write_that_may_be_stored"],
  ["what is dropped under way may be stored", "src/session.rs", "        let result = write.await;", "        let unsure = std::mem::replace(&mut self.progress, before);\n        let result = write.await;\n        self.progress = unsure;", "halves", "dropped_under_way"],
  ["a save that is left may be stored", "src/session.rs", "        let result = write.await;", "        let unsure = std::mem::replace(&mut self.progress, before);\n        let result = write.await;\n        self.progress = unsure;", "explorer", "a save that is left"],
  ["a commit that is dropped may be stored, too", "src/session.rs", "Asked::AtTheEnd => Progress::UnsureAtTheEnd,", "Asked::AtTheEnd => Progress::Unsure,", "halves", "a_commit_that_was_dropped"],
  ["what may be stored is not opened again", "src/sessions.rs", "if is_unsure {", "if false {", "halves", "a_write_that_may_be_stored"],
  ["a renewal that is due stays due", "src/session.rs", "matches!(found, Cookie::Noted | Cookie::Due)", "found == Cookie::Due", "halves", "a_cookie_that_is_to_be_renewed"],
  ["and so does a new id", "src/session.rs", "matches!(found, Cookie::Noted | Cookie::Due)", "found == Cookie::Noted", "halves", "still_owes_its_cookie"],
  // What browsers carry, and what an isolate knows.
  ["each write has a cookie of its own", "src/store/kv/carried.rs", "format!(\"{}.{}-{:08x}\", beginning(key), write.version, write.nonce)", "format!(\"{}.1-{:08x}\", beginning(key), write.nonce & 1)", "simulation", "arrives_late"],
  ["named by its nonce", "src/store/kv/carried.rs", "beginning(key), write.version, write.nonce)", "beginning(key), write.version, 1_u32)", "simulation", "arrives_late|the_later_one_counts"],
  ["of two branches the later one counts", "src/store/kv/write.rs", "(self.time, self.version, self.nonce)", "(self.version, self.time, self.nonce)", "simulation", "the_later_one_counts"],
  ["what is only shown is carried", "src/store/kv/visit.rs", "        self.shows(key, live, news)?;\n        Ok(Some(record))", "        self.shows(key, live, news)?;\n        self.withdraw(key);\n        Ok(Some(record))", "simulation", "only_shown"],
  ["what is too large is carried as a stub", "src/store/kv/carried.rs", "            return Some(Self { write, whole: None, fate });", "            return None.or(Some(Self { write, whole: None, fate }).filter(|_| false));", "simulation", "too_large_for_a_cookie"],
  ["a carried write is believed for ninety seconds", "src/store/kv/carried.rs", "now.saturating_sub(time) >= CARRIED_FOR || ", "", "simulation", "after_ninety_seconds"],
  ["what is built on a write that is under way is stored once more", "src/store/kv/puts.rs", "            again_at: written.write.again_at.filter(|at| *at > now),", "            again_at: None,", "simulation", "stored_once_more"],
  ["what browsers carry and KV does not show is stored", "src/store/kv/visit.rs", "Care::NotDue => found.is_late(now) &&", "Care::NotDue => false && found.is_late(now) &&", "simulation", "whose_isolate_died"],
  ["not where the news of it would come too late", "src/store/kv/write.rs", "self.age(now) < STORED_UNTIL", "self.age(now) < CARRIED_FOR", "simulation", "not_carried_for_long"],
  ["what nobody looks after is stored by the next look", "src/store/kv/visit.rs", "Care::Forgotten => found.may_be_stored_late(now),", "Care::Forgotten => false,", "simulation", "what_nobody_stores"],
  ["but not if it is not the newest", "src/store/kv/puts.rs", ".filter(|waiting| waiting.nonce == nonce)", "", "simulation", "what_nobody_stores"],
  ["and once more, when that is due", "src/store/kv/visit.rs", "write.again_at = write.again_at.max(Some(now));", "write.again_at = Some(now);", "simulation", "is_still_stored_once_more"],
  ["it is tried for as long as another", "src/store/kv/puts.rs", " && before.has_somebody(now)", "", "simulation", "is_tried_for_as_long"],
  ["what was abandoned is told of", "src/store/kv/visit.rs", "found.is_slow(now)", "false", "simulation", "what_was_abandoned"],
  ["a look tells of what is under way", "src/store/kv/visit.rs", "None if !is_under_way => return", "None => return", "simulation", "a_second_look_tells"],
  ["what is to be stored once more is not stored", "src/store/kv/visit.rs", "is_accepted && written.write.again_at.is_none_or(|again_at| again_at <= now)", "is_accepted", "simulation", "is_not_yet_stored"],
  ["nor if a handler saved it", "src/store/kv/visit.rs", "if leaves_before || once_more {", "if leaves_before {", "simulation", "nor_is_what_was_saved"],
  ["an isolate knows its own writes of the last seconds", "src/store/kv/known.rs", "const MOST_PAST: usize = 2_048;", "const MOST_PAST: usize = 256;", "simulation", "hundreds_of_counts"],
  ["an isolate loses no update", "src/store/kv/known.rs", "            Some(known) if !is_made_from(known) => return Entered::Stale,\n", "", "simulation", "meet_in_one_isolate"],
  ["also where more are made than a record names", "src/store/kv/known.rs", "entry.is_at(write) && entry.past.contains(&other.nonce)", "entry.is_at(write) && entry.past.len() > 9999", "simulation", "no_more_than_a_write_a_second"],
  ["who was brought two branches builds on both", "src/store/kv/visit.rs", "let beside: Vec<_> = rivals.filter(", "let beside: Vec<Write> = rivals.take(0).filter(", "simulation", "from_anywhere|clocks_differ"],
  ["a save is told of when KV has it", "src/store/kv/visit.rs", "asked == Asked::AtTheEnd && self.may_leave_before", "self.may_leave_before", "simulation", "a_handler_asks_for"],
  ["without a reply nothing is behind it", "src/store/kv/visit.rs", "self.jar.as_ref().filter(|jar| jar.has_reply())", "self.jar.as_ref()", "simulation", "without_a_reply"],
  ["many carried writes are waited for", "src/store/kv/visit.rs", "carried::count(jar, key) <= MOST_CARRIED && ", "", "simulation", "more_than_eight"],
  ["of many requests one has the write stored", "src/store/kv/puts.rs", "            return None;\n        }\n        self.tasks", "        }\n        self.tasks", "simulation", "leave_one_work_behind"],
  ["and goes on to one that comes during its put", "src/store/kv/drive.rs", "let newer = task.and_then(", "let newer = task.filter(|_| false).and_then(", "simulation", "while_a_put_is_under_way"],
  ["nor of one that is about to end", "src/store/kv/puts.rs", "|attendant| attendant.task == task)?;", "|_| true)?;", "lib", "takes_no_place"],
  ["nobody relies on who may be broken off", "src/store/kv/visit.rs", "            self.kv.known.borrow_mut().leave(key);\n", "", "simulation", "has_no_behind"],
  ["but not where it was broken off", "src/store/kv/puts.rs", "                && (attendant.looked..attendant.looked.saturating_add(FORGOTTEN)).contains(&now)\n", "", "simulation", "a_later_count_has_its_own"],
  ["nor when it is about to end", "src/store/kv/puts.rs", "                && now.saturating_add(ATTENDED_FOR) < attendant.task.until\n", "", "lib", "about_to_end_looks"],
  ["nor when more is to be done", "src/store/kv/puts.rs", "                && again_at.is_none_or(|at| attendant.and_again && at.saturating_add(TRIED_FOR) < attendant.task.until)\n", "", "lib", "stored_once_more_looks_after"],
  ["a name takes one write a second", "src/store/kv/puts.rs", "const ONE_SECOND: u64 = 1_000;", "const ONE_SECOND: u64 = 0;", "simulation", "ten_counts_in_two_seconds"],
  ["the write of another release is built on what it was made from", "src/store/kv/write.rs", "Self { time: time.saturating_add(1), version, nonce, again_at: None, built_on: nonces }", "Self { time: 0, version, nonce, again_at: None, built_on: nonces }", "simulation", "of_another_release"],
  ["a logout takes the carried writes away", "src/store/kv/visit.rs", "        if let Some(jar) = &self.jar {\n            carried::take_away(jar, key);\n        }\n        Ok(successor)", "        Ok(successor)", "simulation", "bring_no_ended_session_back"],
  ["while an id is changed nothing is stored under the old one", "src/store/kv/known.rs", "            _ if self.is_moving(key, now) => return Entered::Moving,\n", "", "simulation", "is_not_left_behind"],
  ["who comes meanwhile waits for it", "src/store/kv/visit.rs", "            self.kv.platform.sleep(MOVE_LOOKS_EVERY).await;\n            waited", "            waited", "simulation", "who_counts_while_the_id_is_changed"],
  ["and so does another change of it", "src/store/kv/visit.rs", "                return Ok(self.after_the_move(from).await);", "                return Ok(Updated::Stale(None));", "simulation", "who_logs_in_while_the_id_is_changed"],
  ["a write is given up with a line in the log", "src/store/kv/puts.rs", "        if task.is_some() {\n            self.told = self.behind;\n        }\n", "        self.told = self.behind;\n", "simulation", "is_not_given_up_without_a_line"],
  ["whatever came after it", "src/store/kv/puts.rs", "self.behind > self.accepted.max(self.told)", "self.behind == self.given_up && self.behind > self.told", "lib", "whatever_came_after_it"],
  ["but only if its reply had gone out", "src/store/kv/puts.rs", "let has_news = self.behind > self.accepted.max(self.told);", "let has_news = true;", "lib", "and_nobody_else"],
  ["what cannot be dropped is not looked through at each write", "src/store/kv/known.rs", ".saturating_add(MOST_BYTES / 8);", ".saturating_add(MOST_BYTES / 64);", "lib", "is_not_looked_through"],
  ["a reply leaves before its write only where the browser has all of it", "src/store/kv/visit.rs", " && carried::fits(jar, key, written)", "", "simulation", "too_large_for_a_cookie_is_stored_before"],
  ["of two large writes that met either will do", "src/store/kv/visit.rs", " || due.iter().any(|due| write.has(due) && !is_outrun(due))", "", "simulation", "large_writes_that_meet"],
  ["what waits is stored by who comes next", "src/store/kv/visit.rs", "                self.behind(key, number, true).await;\n                // What is looked", "                // What is looked", "simulation", "a_save_whose_request_is_gone"],
  ["a put whose request is gone holds nobody up", "src/store/kv/puts.rs", "            waiting.since = now;\n            waiting.is_unsure = true;", "            waiting.is_unsure = true;", "simulation", "does_not_give_the_next_write_up"],
  ["the way is left to another isolate", "src/store/kv/puts.rs", "ONE_SECOND.saturating_add(waiting.random_below(WAY_FOR_OTHERS))", "ONE_SECOND", "simulation", "beside_an_isolate_that_writes"],
  ["a clock that is ahead makes no write unbelieved", "src/store/kv/carried.rs", "write.time.min(now))", "write.time)", "simulation", "an_hour_ahead"],
  ["a mark lives as long as what a browser carries", "src/store/kv/visit.rs", "let all = carried.map(|written| &written.record).chain(&moved).chain(&stored);", "let all = carried.map(|written| &written.record).take(0).chain(&moved).chain(&stored);", "simulation", "the_mark_of_a_record"],
  ["a late write takes no newer one's place", "src/store/kv/known.rs", "(entry.is_at(&written.write) && is_due).then(||", "(true).then(||", "simulation", "takes_no_newer_writes_place"],
  ["a save whose session moved is done", "src/store/kv/visit.rs", "            Err(NotStored::Ended(Some(version))) if version > record.version => return Ok(Updated::Done),\n", "", "simulation", "while_the_id_is_changed_is_done"],
  // The layer for axum.
  ["a route that uses no session loads none", "src/tower/layer.rs", "let this: &dyn Layered = &*slot;", "let this: &dyn Layered = &*slot;\n    let senders = crate::cross_origin::Senders::AnySite;\n    if let Ok(super::slot::Taken::Session(session)) = slot.take(0, senders).await {\n        slot.put(session);\n    }", "axum", "costs_no_store_call"],
  ["a response of 5xx saves nothing", "src/tower/settle.rs", "|| response.status().is_server_error()", "", "axum", "a_response_of_5xx"],
  ["a large body is not kept", "src/tower/replay.rs", "length <= REPLAY_LIMIT =>", "length <= 2 * REPLAY_LIMIT =>", "axum", "cannot_be_given_again"],
  ["an upgrade is given once", "src/tower/replay.rs", "parts.headers.contains_key(UPGRADE)", "false", "axum", "cannot_be_given_again"],
  ["a session is given back when it is dropped", "src/tower/extractor.rs", "self.slot.put(session);", "drop(session);", "axum", "saved_before_its_response"],
  ["a session that is had twice is refused", "src/tower/slot.rs", "(other, _) => other,", "(_, Ok(Opened::Session(session))) => Place::In(session),\n                    (other, _) => other,", "axum", "a_session_that_is_asked_for_twice_at_once_is_had_once"],
  ["layers for one cookie are refused", "src/tower/layer.rs", "neighbours.check::<Slot<T>>(cookie_name, type_name::<T>())?;", "", "axum", "two_types_on_one_cookie"],
  ["a race that an inner layer lost runs the handler again for all", "src/tower/stack.rs", "Some(true) => NextRun::Around,", "Some(true) => NextRun::Nowhere,", "axum", "on_one_of_two_sessions"],
  ["and on all sessions anew", "src/tower/stack.rs", "            inner.forget_run_of_all();", "", "axum", "on_one_of_two_sessions|killed_between_two_runs"],
  ["but not where one of them is stored", "src/tower/stack.rs", "self.neighbours().is_replayable.get() && self.may_all_run_again()", "self.neighbours().is_replayable.get()", "axum", "runs_nothing_twice"],
  ["what an inner layer has told the browser is told", "src/tower/layer.rs", "&this.set_cookie_within())", "&[])", "axum", "runs_nothing_twice"],
  ["a session of the run before stays the same", "src/tower/layer.rs", "match neighbours.run_before(cookie_name) {", "match neighbours.run_before(cookie_name).filter(|_| false) {", "axum", "killed_between_two_runs"],
  ["what a layer refuses those around it do not save", "src/tower/settle.rs", "|| response.extensions().get::<Refused>().is_some()", "", "axum", "not_saved_by_those_around"],
  ["an error passes the layers that it is not for", "src/tower/layer.rs", "if !this.is_outermost() {", "if false {", "axum", "not_saved_by_those_around"],
  ["an error that is no session's runs nothing again", "src/tower/settle.rs", "None => rejected.map_or(Settled::Unsaved(None), Settled::Refused),", "None if response.status() == 503 => Settled::Lost(Error::contended()),\n            None => rejected.map_or(Settled::Unsaved(None), Settled::Refused),", "axum", "no_layers_runs_nothing_again"],
  ["who may do without a session is told of no expiry", "src/tower/slot.rs", "Place::Expired(Expiry { message, set_cookie })", "Place::Told(Expiry { message, set_cookie })", "axum", "is_said_to_be"],
  ["also where a layer between has none", "src/tower/stack.rs", "            inner.neighbours().standing.replace(Standing::Awaited);", "            if inner.is_open() {\n                inner.neighbours().standing.replace(Standing::Awaited);\n            }", "axum", "a_layer_between_has_no_session"],
  ["a lost race is found whatever a middleware answers", "src/tower/settle.rs", "&& let Some(error) = this.lost_within()", "&& let Some(error) = this.lost_within().filter(|_| false)", "axum", "hides_no_lost_race"],
  ["a race that a second try won is lost no more", "src/tower/stack.rs", "            twin.forget_lost_race();", "", "axum", "wins_is_not_overruled|a_second_try_wins"],
  ["and is said", "src/tower/stack.rs", "            self.log(&error);\n", "", "axum", "of_one_of_two_calls_is_not_forgotten"],
  ["an answer whose handler does not run again counts", "src/tower/settle.rs", "if !matches!(this.next_run(), NextRun::Nowhere) {", "if true {", "axum", "that_is_not_run_again_is_saved|a_hedge_that_wins"],
  ["also where an outermost layer cannot run it again", "src/tower/stack.rs", "            Some(true) => NextRun::Around,", "            Some(_) => NextRun::Around,", "axum", "the_outermost_cannot_run"],
  ["an expiry takes no inner cookie away", "src/tower/layer.rs", "SessionHeaders { set_cookie: &this.set_cookie_within(), ..SessionHeaders::default() }", "SessionHeaders::default()", "axum", "leaves_the_inner_ones_cookie"],
  ["work that goes on is on its own in the next run", "src/tower/stack.rs", "within.borrow_mut().retain(|inner| !inner.neighbours().is_running());", "within.borrow_mut();", "axum", "beside_a_second_run|have_a_session_each"],
  ["and is not left to a layer that commits", "src/tower/layer.rs", "this.neighbours().handler_is_done();", "", "axum", "while_the_layer_around_commits"],
  ["a session of the run before is taken once", "src/tower/stack.rs", "        same.neighbours().handler_runs();", "", "axum", "called_twice_at_once"],
  ["a session is not given when its layer has answered", "src/tower/slot.rs", "if self.neighbours.is_running() && run ==", "if run ==", "axum", "when_it_is_saved_is_refused"],
  ["nor to the work of an earlier run", "src/tower/slot.rs", " && run == self.neighbours.run()", "", "axum", "from_a_lost_run"],
  ["nor to a load that ends too late", "src/tower/slot.rs", "                let opened = self.timed(self.sessions.open_for(&self.arrival)).await;\n                self.check_run(run)?;", "                let opened = self.timed(self.sessions.open_for(&self.arrival)).await;", "axum", "a_load_that_ends|a_load_of_the_first_run"],
  ["work of a lost run is on its own", "src/tower/stack.rs", " && around.neighbours().run() == self.around_run.get()", "", "axum", "work_of_a_lost_run_leaves|a_request_of_a_lost_run"],
  ["what a middleware saved and holds is stored", "src/tower/slot.rs", "self.neighbours.is_running() && !self.is_stored.get()", "self.neighbours.is_running()", "axum", "has_saved_and_holds"],
  ["each layer up to the one that decides must agree", "src/tower/stack.rs", "all_may &= outer.may_all_run_again();", "all_may = outer.may_all_run_again();", "axum", "a_layer_between_is_seen"],
  ["a lost race is said once", "src/tower/settle.rs", "            drop(this.give_up_lost_within());\n", "", "axum", "of_a_hedge_is_said_once"],
  ["who was told is told in the next run", "src/tower/settle.rs", "                self.replace(Place::Told(expiry.clone()));\n", "", "axum", "who_was_told_of_an_expiry"],
  ["a service's error leaves the place as it is", "src/tower/settle.rs", "other => drop(self.replace(other)),", "other => drop(other),", "axum", "an_inner_error_that_is_mended"],
  ["a lost race is said where its service is ready no more", "src/tower/layer.rs", "            this.log(&lost);\n            return Err(error);", "            return Err(error);", "axum", "is_ready_no_more"],
  ["what could not be loaded is asked for again", "src/tower/slot.rs", "            Place::Unavailable(_) => Place::Unopened,\n", "", "axum", "asked_for_again_in_the_next_run"],
  ["a layer that has answered runs nothing again", "src/tower/stack.rs", "around.filter(|around| around.neighbours().is_running() &&", "around.filter(|around|", "axum", "wins_its_races_by_itself"],
  ["a lost race that no run waits for is said", "src/tower/settle.rs", "Place::Reopening => Settled::Unsaved(Some(Error::contended())),", "", "axum", "that_no_second_run_waits_for"],
  ["what an error page hides is said", "src/tower/extractor.rs", "            slot.neighbours().note_rejected(&error);\n", "", "axum", "what_an_error_page_hides"],
  ["also of a session without a layer", "src/tower/extractor.rs", "Some(layer) => layer.neighbours().note_rejected(&error),", "Some(_) => {}", "axum", "what_an_error_page_hides"],
  ["and of a user's sessions", "src/tower/stack.rs", "        self.0.log_ignored(ignored);\n", "", "axum", "what_an_error_page_hides"],
  ["by the outermost layer", "src/tower/stack.rs", "if let Some(outer) = neighbours.around() {\n            outer", "if let Some(outer) = neighbours.around().filter(|_| false) {\n            outer", "axum", "that_a_layer_around_answers"],
  ["and once", "src/tower/stack.rs", ".filter(|error| !error.is_answered())", "", "axum", "type_without_its_layer|what_an_error_page_hides"],
  ["what two ask for at once in a second run is no lost race", "src/tower/slot.rs", "                self.replace(Place::Reopening);\n", "                self.replace(Place::Failed(Error::contended()));\n", "axum", "asked_for_twice_at_once_in_a_second_run"],
  ["who gives up on a session has lost the race", "src/tower/slot.rs", "Place::Reopening => Place::Failed(Error::contended()),", "Place::Reopening => Place::Reopening,", "axum", "gives_up_on_its_session"],
  ["the response of a run that lost is gone before the next", "src/tower/layer.rs", "                drop(response);\n                (refusal, None)", "                (refusal, None)", "axum", "when_its_response_is_gone"],
  ["a reply that went on without a session is not shared", "src/tower/settle.rs", "Place::Unavailable(error) | Place::Failed(error) => Settled::Unsaved(Some(error.clone())),", "", "axum", "goes_on_without_a_session"],
];

const only = process.argv[2];
const folders = Array.from({ length: Math.min(2, availableParallelism()) }, (_, number) => `target/mutants/${number}`);

// A copy of what may be changed, and links to the rest.
function prepare(folder) {
  mkdirSync(folder, { recursive: true });
  for (const name of ["src", "Cargo.toml", "Cargo.lock"]) {
    rmSync(`${folder}/${name}`, { recursive: true, force: true });
    cpSync(name, `${folder}/${name}`, { recursive: true, preserveTimestamps: true });
  }
  for (const name of ["tests", "examples", "counter", "template", "benches", "docs", "migrations", "README.md"]) {
    if (!existsSync(`${folder}/${name}`)) symlinkSync(`${process.cwd()}/${name}`, `${folder}/${name}`);
  }
}

// Quick to build, and quick to fail.
const env = { ...process.env, CARGO_TARGET_DIR: "built", RUST_BACKTRACE: "0", SIMULATION_SEEDS: "2000" };

function cargo(folder, testFile, test) {
  const isExplorer = testFile === "explorer";
  const features = testFile === "axum" ? ["--features", "conformance,axum"] : ["--no-default-features", "--features", "conformance"];
  const files = testFile.split("|").flatMap((file) => (file === "lib" ? ["--lib"] : ["--test", file]));
  const tests = isExplorer ? ["the_promises_hold"] : test.split("|");
  const command = ["test", ...features, "--no-fail-fast", ...files, "--", ...tests];
  const only = isExplorer ? { EXPLORER_ONLY: test } : {};
  return new Promise((resolve) => {
    // What is taken out may be the end of a loop.
    const child = spawn("timeout", ["-k", "5", "400", "cargo", ...command], { cwd: folder, env: { ...env, ...only }, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    child.on("close", (code) => resolve({ code, output }));
  });
}

// It is caught as well, but perhaps by a machine that is busy.
const HANGS = "its test does not end";

// What is wrong with a mutant, if anything is.
async function survives(folder, [, file, from, to, testFile, test]) {
  const original = readFileSync(`${folder}/${file}`, "utf8");
  if (original.split(from).length !== 2) return `its text stands ${original.split(from).length - 1} times in ${file}`;
  writeFileSync(`${folder}/${file}`, original.replace(from, () => to));
  const { code, output } = await cargo(folder, testFile, test);
  writeFileSync(`${folder}/${file}`, original);
  if (code !== 0 && /test result: FAILED/.test(output)) return null;
  if (code === 124 && /\nrunning [1-9]/.test(output)) return HANGS;
  return code === 0 ? `${testFile} passes without it` : `it does not compile:\n${output.slice(-3000)}`;
}

// What all are made of: the compiler and what it is told, the crate, the native tests and this runner. What drives a Worker is not
// among it.
function base() {
  const hash = createHash("sha256").update(spawnSync("rustc", ["-vV"], { encoding: "utf8" }).stdout);
  const told = Object.entries(process.env).filter(([name]) => /^(RUSTFLAGS|CARGO_|EXPLORER|SIMULATION_)/.test(name)).sort();
  hash.update(JSON.stringify(told)).update(readFileSync(import.meta.filename, "utf8").split("\n];\n")[1]);
  for (const path of ["Cargo.toml", "Cargo.lock", "src", "tests"].flatMap((name) =>
    statSync(name).isFile() ? [name] : readdirSync(name, { recursive: true }).map((path) => `${name}/${path}`))) {
    const isOurs = !/^tests\/(worker|page)\/|^tests\/[^/]*\.mjs$/.test(path);
    if (isOurs && statSync(path, { throwIfNoEntry: false })?.isFile()) hash.update(`\0${path}\0`).update(readFileSync(path));
  }
  return hash.digest("hex");
}
const began = base();
const fingerprint = (mutant) => createHash("sha256").update(began).update(JSON.stringify(mutant)).digest("hex");

const CAUGHT = "target/mutants/caught.json";
// Not what was edited meanwhile.
function remember() {
  if (base() !== began) return;
  writeFileSync(`${CAUGHT}.new`, JSON.stringify(mutants.map(fingerprint).filter((one) => caught.has(one))));
  renameSync(`${CAUGHT}.new`, CAUGHT);
}
const caught = new Set(existsSync(CAUGHT) ? JSON.parse(readFileSync(CAUGHT, "utf8")) : []);

const asked = mutants.filter(([rule]) => !only || rule.includes(only));
const queue = asked.filter((mutant) => only || !caught.has(fingerprint(mutant)));
const unchanged = asked.length - queue.length;
let passed = unchanged;
const failures = [];
folders.forEach(prepare);
// What the mutants have in common is built once: mostly by the tests that ran before.
const [first, ...others] = folders;
const isBuilt = existsSync(`${first}/built`);
if (!isBuilt && existsSync("target/debug/deps")) {
  for (const name of [".fingerprint", "build", "deps"]) {
    cpSync(`target/debug/${name}`, `${first}/built/debug/${name}`, { recursive: true, preserveTimestamps: true });
  }
}
for (const testFile of new Set(queue.map(([, , , , testFile]) => (testFile === "axum" ? "axum" : "saves")))) {
  const { code, output } = isBuilt ? { code: 0 } : await cargo(first, testFile, "nothing of this name");
  if (code !== 0) console.log(output);
}
for (const other of others) {
  if (!existsSync(`${other}/built`) && existsSync(`${first}/built`)) cpSync(`${first}/built`, `${other}/built`, { recursive: true, preserveTimestamps: true });
}
await Promise.all(
  folders.map(async (folder) => {
    for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
      const wrong = await survives(folder, mutant);
      const isCaught = wrong === null || wrong === HANGS;
      console.log(`${isCaught ? "caught" : "SURVIVES"}  without: ${mutant[0]}${wrong === HANGS ? " (its test does not end)" : ""}`);
      if (!isCaught) failures.push(`${mutant[0]}: ${wrong}`);
      else passed += 1;
      if (wrong === null) caught.add(fingerprint(mutant));
      if (queue.length % 20 === 0) remember();
    }
  }),
);
remember();
for (const failure of failures) console.log(`\n${failure}`);
if (unchanged > 0) console.log(`${unchanged} were caught before, and nothing that they are made of has changed since`);
console.log(`mutants: ${passed} passed, ${failures.length} failed`);
process.exit(failures.length > 0 || passed === 0 ? 1 : 0);
