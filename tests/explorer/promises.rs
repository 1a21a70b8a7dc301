//! The promises of README's table, checked after a run.

use std::collections::{BTreeMap, BTreeSet};

use edge_session::Effect;

use crate::requests::{Act, Answer, Got, Seen, USER};
use crate::run::{ADVERSARY, Run, VISITOR};
use crate::stores::Kind;

/// What is broken of them, if anything is.
pub fn broken(run: &Run) -> Option<String> {
    let got = run.got.borrow().clone();
    let checks = [
        exact,
        told_is_true,
        logout_is_final,
        a_logout_ends_what_it_came_with,
        the_old_id_is_worth_nothing,
        another_address_gets_nothing,
        nobody_is_logged_out,
        looking_writes_nothing,
        no_cookie_for_nothing,
        a_cookie_is_renewed_while_its_session_is_there,
        what_was_not_told_is_logged,
        never_mistaken,
        what_ended_meanwhile_begins_nothing,
        the_end_of_all_is_final,
        who_ends_the_others_stays,
        no_more_sessions_than_there_may_be,
        // The last one, for it ends sessions itself.
        a_users_sessions_are_listed_and_end,
    ];
    checks.iter().find_map(|check| check(run, &got).err())
}

/// The session's cookie, if this reply sets it.
fn given(got: &Got) -> impl Iterator<Item = &str> {
    let is_the_ids = |line: &&String| line.starts_with("webpy_session_id=") && !line.contains("Max-Age=0");
    let lines = got.set_cookie.iter().filter(is_the_ids);
    lines.map(|line| line.split(';').next().unwrap())
}

/// The cookies that anybody was ever given, the first one included: one of each session.
fn known(run: &Run, got: &[Got]) -> Vec<String> {
    let all: BTreeSet<_> = got.iter().flat_map(given).chain([run.cookie.as_str()]).map(str::to_owned).collect();
    if !run.scenario.renews_cookies() {
        return all.into_iter().collect();
    }
    let of_each: BTreeMap<_, _> = all.into_iter().map(|cookie| (run.key_of(&cookie), cookie)).collect();
    of_each.into_values().collect()
}

fn known_sessions(run: &Run, got: &[Got]) -> Vec<Seen> {
    known(run, got).iter().map(|cookie| run.seen_by(Some(cookie))).collect()
}

/// No update is lost, and none is applied twice.
fn exact(run: &Run, got: &[Got]) -> Result<(), String> {
    let known = known_sessions(run, got);
    // A sign-in that is sent twice begins a second session from what was there before.
    let is_copied = got.iter().filter(|got| got.act.signs_in()).count() > 1;
    for got in got.iter().filter(|got| got.act.changes_data()) {
        for number in [got.number, got.number + 1000] {
            for seen in run.alive().iter().chain(&known) {
                if seen.writes.iter().filter(|write| **write == number).count() > 1 {
                    return Err(format!("write {number} was applied twice: {seen:?}"));
                }
            }
            if run.kind != Kind::Kv
                && !is_copied
                && known.iter().filter(|seen| seen.writes.contains(&number)).count() > 1
            {
                return Err(format!("write {number} is in two sessions: {known:?}"));
            }
        }
    }
    let is_exact = run.kind != Kind::Kv && !has_limit(run) && got.iter().all(|got| !got.act.ends_sessions());
    for got in got.iter().filter(|_| is_exact) {
        let is_counted = got.act.changes_data()
            && !matches!(got.act, Act::Take | Act::TakeAndSave | Act::CountAndGoOn | Act::CountAndLeaveTheSave);
        let is_stored = matches!(got.replied(), Some(Effect::Created | Effect::Saved | Effect::Moved));
        if is_counted && is_stored && !run.alive().iter().any(|seen| seen.writes.contains(&got.number)) {
            return Err(format!("write {} was acknowledged and is lost", got.number));
        }
    }
    Ok(())
}

/// What follows a save happens once, and only for what is stored. The voucher is spent once.
fn told_is_true(run: &Run, got: &[Got]) -> Result<(), String> {
    let delivered = |got: &Got| got.notes.borrow().delivered;
    let goods: u32 = got.iter().filter(|got| matches!(got.act, Act::Take | Act::TakeAndSave)).map(delivered).sum();
    if run.kind != Kind::Kv && goods > 1 {
        return Err(format!("{goods} goods for one voucher"));
    }
    for got in got {
        if delivered(got) > 1 {
            return Err(format!("request {} did twice what follows its save", got.number - 1));
        }
    }
    let is_exact = run.kind != Kind::Kv && got.iter().all(|got| !got.act.ends_sessions());
    for got in got.iter().filter(|got| is_exact && got.act == Act::CountAndDeliver && delivered(got) == 1) {
        if !run.alive().iter().any(|seen| seen.writes.contains(&got.number)) {
            return Err(format!("request {} was told that it is saved, and it is not", got.number - 1));
        }
    }
    Ok(())
}

/// Whether this login was answered with a new id.
fn has_moved(got: &Got) -> bool {
    got.replied().is_some() && got.set_cookie.iter().any(|line| !line.contains("Max-Age=0"))
}

/// Whether this logout had the session, or the right to follow it to where it went.
fn had_the_session(got: &Got) -> bool {
    let notes = got.notes.borrow();
    let Some((state, _)) = notes.states.last() else { return false };
    state == "Session(retired)" || state == "Session(stored)" && notes.saw.last().unwrap().writes.contains(&0)
}

/// No request in flight and no cookie revives a killed session.
fn logout_is_final(run: &Run, got: &[Got]) -> Result<(), String> {
    // On KV two logins at once are two sessions, as is anywhere a sign-in that is sent twice; a logout of one leaves the other.
    let is_login = |got: &&Got| got.act.logs_in() && has_moved(got);
    let from_first = |got: &&Got| got.cookie.as_ref() == Some(&run.cookie);
    let is_second = |got: &Got| got.act.signs_in() && got.replied() == Some(Effect::Created);
    let is_forked =
        run.kind == Kind::Kv && got.iter().filter(is_login).filter(from_first).count() > 1 || got.iter().any(is_second);
    let ends_all = |got: &Got| !is_forked || got.cookie.as_ref() == Some(&run.cookie);
    let is_end = |got: &&Got| got.act.logs_out() && got.replied().is_some() && had_the_session(got) && ends_all(got);
    let Some(ended) = got.iter().filter(is_end).filter_map(|got| got.ended).min() else { return Ok(()) };
    // A sign-in that is sent twice is a session of its own with what was there before, if it began before that ended.
    let is_copy = |got: &&Got| is_second(got) && got.began < ended;
    let copies: Vec<&str> = got.iter().filter(is_copy).flat_map(given).collect();
    let originals = known(run, got).into_iter().filter(|cookie| !copies.contains(&cookie.as_str()));
    if originals.into_iter().any(|cookie| run.seen_by(Some(&cookie)).writes.contains(&0)) {
        return Err("alive after a logout".to_owned());
    }
    Ok(())
}

/// Whichever session a logout came with, also one that began a moment ago.
fn a_logout_ends_what_it_came_with(run: &Run, got: &[Got]) -> Result<(), String> {
    let has_it = |got: &&Got| got.notes.borrow().states.last().is_some_and(|(state, _)| state == "Session(stored)");
    let is_end = |got: &&Got| run.kind != Kind::Kv && got.act.logs_out() && got.replied().is_some();
    for got in got.iter().filter(is_end).filter(has_it) {
        let seen = run.seen_by(got.cookie.as_deref());
        if seen != Seen::default() {
            return Err(format!("alive after its logout by request {}: {seen:?}", got.number - 1));
        }
    }
    Ok(())
}

/// Whoever knows the id from before a login reads and writes nothing of what came after.
fn the_old_id_is_worth_nothing(run: &Run, got: &[Got]) -> Result<(), String> {
    let logins: Vec<&Got> = got.iter().filter(|got| got.browser == VISITOR && got.act.logs_in()).collect();
    let is_visitors = |seen: &Seen| seen.user.is_some_and(|user| logins.iter().any(|login| login.number == user));
    let adversary: Vec<&Got> = got.iter().filter(|got| got.browser == ADVERSARY).collect();
    if adversary.iter().any(|got| got.notes.borrow().saw.iter().any(is_visitors)) {
        return Err("the old id reads the login".to_owned());
    }
    if !adversary.is_empty() && is_visitors(&run.seen_by(run.jar(ADVERSARY).as_deref())) {
        return Err("the old id cycles into the login".to_owned());
    }
    let since = logins.iter().filter(|login| has_moved(login)).filter_map(|login| login.ended).min();
    for late in adversary.iter().filter(|got| since.is_some_and(|since| got.began > since)) {
        if known_sessions(run, got).iter().any(|seen| is_visitors(seen) && seen.writes.contains(&late.number)) {
            return Err("the old id writes into the login".to_owned());
        }
    }
    Ok(())
}

/// Who comes with the cookie from another address neither sees the session nor changes or ends it.
fn another_address_gets_nothing(run: &Run, got: &[Got]) -> Result<(), String> {
    if !run.scenario.binds_to_address() {
        return Ok(());
    }
    let known = known_sessions(run, got);
    for other in got.iter().filter(|got| got.browser == ADVERSARY) {
        if other.notes.borrow().saw.iter().any(|seen| seen.writes.contains(&0)) {
            return Err(format!("request {} sees the session from another address", other.number - 1));
        }
        if known.iter().any(|seen| seen.writes.contains(&0) && seen.writes.contains(&other.number)) {
            return Err(format!("request {} writes into the session from another address", other.number - 1));
        }
    }
    let may_be_lost = |got: &Got| got.act.logs_out() || got.act.logs_in() && !has_moved(got);
    let is_kept = got.iter().all(|got| got.browser == ADVERSARY || !may_be_lost(got));
    let is_young = run.now() - crate::world::NOW < 100;
    if is_kept && is_young && known.iter().all(|seen| !seen.writes.contains(&0)) {
        return Err("the session was ended from another address".to_owned());
    }
    Ok(())
}

/// Replies may arrive in any order: who logged in, and nobody logged out, is logged in.
fn nobody_is_logged_out(run: &Run, got: &[Got]) -> Result<(), String> {
    let logins: Vec<&Got> = got.iter().filter(|got| got.browser == VISITOR && got.act.logs_in()).collect();
    let logged_in =
        !logins.is_empty() && logins.iter().all(|login| login.replied().is_some() && !login.set_cookie.is_empty());
    let logs_out = |got: &Got| got.act.logs_out() && (got.browser == VISITOR || had_the_session(got));
    let ends_others = |got: &Got| got.act.ends_sessions() && !got.act.logs_out();
    let logged_out = got.iter().any(|got| logs_out(got) || ends_others(got)) || has_limit(run);
    let is_young = run.now() - crate::world::NOW < 100;
    // A login within the store's deadline, and no request that comes with the old id when its grace is over.
    let is_fast = logins.iter().all(|login| login.ended_at - login.began_at <= 5);
    let grace_ends = logins.iter().map(|login| login.began_at + 30).min().unwrap_or_default();
    let is_late = |got: &Got| got.cookie.as_ref() == Some(&run.cookie) && got.began_at >= grace_ends;
    let is_in_time = is_fast && !got.iter().any(|got| got.browser == VISITOR && is_late(got));
    let is_renewed = run.scenario.renews_cookies();
    if logged_in
        && !logged_out
        && is_young
        && is_in_time
        && !is_renewed
        && run.lost_replies.get() == 0
        && run.seen_by(run.jar(VISITOR).as_deref()).user.is_none()
    {
        return Err("the visitor was logged out".to_owned());
    }
    Ok(())
}

/// Who only looks, or saves what it has not changed, runs once, writes no data, and is not failed by a note of use.
fn looking_writes_nothing(run: &Run, got: &[Got]) -> Result<(), String> {
    let is_new = |got: &Got| got.notes.borrow().states.iter().any(|(state, _)| state != "Session(stored)");
    for got in got.iter().filter(|got| got.act == Act::Look || got.act == Act::Save && !is_new(got)) {
        let calls = run.world.calls_of(got.number as usize - 1);
        let count = |name: &str| calls.iter().filter(|call| *call == name).count();
        if got.notes.borrow().runs > 1 {
            return Err("a look ran again".to_owned());
        }
        if count("update") + count("create") + count("change_id") + count("put ended") > 0 {
            return Err(format!("a look wrote: {calls:?}"));
        }
        let noted = count("touch") + count("put session") > 0 || count("get session") > 1;
        if matches!(got.answer, Some(Answer::Failed(_))) && noted {
            return Err("a look failed because of its note of use".to_owned());
        }
    }
    Ok(())
}

/// A cookie that the browser has already is not sent again: it could arrive after another one.
fn no_cookie_for_nothing(run: &Run, got: &[Got]) -> Result<(), String> {
    for got in got.iter().filter(|_| !run.scenario.renews_cookies()) {
        if given(got).any(|cookie| Some(cookie) == got.cookie.as_deref()) {
            return Err(format!("request {} is sent the cookie that it came with", got.number - 1));
        }
        let notes = got.notes.borrow();
        if notes.states.last().is_some_and(|(state, _)| state == "Session(retired)")
            && !got.act.logs_in()
            && !got.act.logs_out()
            && !got.set_cookie.is_empty()
        {
            return Err("a straggler is sent a cookie".to_owned());
        }
    }
    Ok(())
}

/// A cookie that is given again names the session of the request, which was there when the handler had run. (What ended between
/// that look and the reply nobody can know.)
fn a_cookie_is_renewed_while_its_session_is_there(run: &Run, got: &[Got]) -> Result<(), String> {
    if !run.scenario.renews_cookies() {
        return Ok(());
    }
    let came_with = |got: &Got| got.cookie.as_deref().map(|cookie| run.key_of(cookie));
    for renewed in got.iter().filter(|got| given(got).any(|cookie| Some(run.key_of(cookie)) == came_with(got))) {
        let ends_it = |other: &&Got| {
            let retires = other.act.logs_in() && has_moved(other);
            let ends = other.act.logs_out() && other.replied().is_some() && had_the_session(other);
            (retires || ends) && came_with(other) == came_with(renewed)
        };
        let ran = renewed.notes.borrow().ran;
        if let Some(end) = got.iter().filter(ends_it).find(|end| end.ended.is_some_and(|at| at < ran)) {
            let (number, by) = (renewed.number - 1, end.number - 1);
            return Err(format!("request {number} is given the cookie again of what request {by} has ended"));
        }
    }
    Ok(())
}

/// A store that fails is never an empty session: where nobody logs in or out, and no time goes by, each handler runs on
/// the session.
fn never_mistaken(run: &Run, got: &[Got]) -> Result<(), String> {
    let is_there = run.now() == crate::world::NOW + run.scenario.age
        && got.iter().all(|got| !got.act.logs_in() && !got.act.ends_sessions());
    let is_new = |got: &&Got| got.notes.borrow().states.iter().any(|(state, _)| state != "Session(stored)");
    match got.iter().find(is_new) {
        Some(got) if is_there => Err(format!("request {} ran on another session", got.number - 1)),
        _ => Ok(()),
    }
}

/// A request that had the session, and runs again when it is gone, neither begins another nor sets a cookie.
fn what_ended_meanwhile_begins_nothing(_run: &Run, got: &[Got]) -> Result<(), String> {
    for got in got.iter().filter(|got| !got.act.logs_in() && !got.act.logs_out()) {
        let states = &got.notes.borrow().states;
        let had_it = states.first().is_some_and(|(state, _)| state == "Session(stored)");
        let is_gone = states.last().is_some_and(|(state, _)| state != "Session(stored)");
        if had_it && is_gone && (!got.set_cookie.is_empty() || got.replied() == Some(Effect::Created)) {
            return Err(format!("request {} begins a session in place of the one that ended", got.number - 1));
        }
    }
    Ok(())
}

/// A login that failed, and may have retired its visitor's id, is in the log.
fn what_was_not_told_is_logged(run: &Run, got: &[Got]) -> Result<(), String> {
    let first = run.keys.borrow()[0].clone();
    let is_retired = run.inside.load(&first, &run.world).is_some_and(|record| record.successor.is_some());
    let logins: Vec<&Got> = got.iter().filter(|got| got.act.logs_in()).collect();
    let all_failed =
        logins.iter().all(|login| matches!(login.answer, Some(Answer::Failed(_))) && login.set_cookie.is_empty());
    if is_retired && all_failed && !run.world.logged().iter().any(|line| line.starts_with("id_untold: ")) {
        return Err("an id was changed, its visitor was not told, and the log does not say so".to_owned());
    }
    Ok(())
}

/// Once all of a user's sessions were ended, none is alive that was signed in by a request that began before.
fn the_end_of_all_is_final(run: &Run, got: &[Got]) -> Result<(), String> {
    for ended in got.iter().filter(|got| matches!(got.act, Act::EndAll | Act::EndOthers) && got.replied().is_some()) {
        // Whoever signs in again the session that is spared.
        let is_spared = |early: &&Got| {
            ended.act == Act::EndOthers
                && early.cookie == ended.cookie
                && ended.notes.borrow().saw.iter().all(|seen| seen.user.is_some())
        };
        let early = got.iter().filter(|got| got.act == Act::SignIn && got.began < ended.began);
        for early in early.filter(|early| !is_spared(early)) {
            // The one that is spared, or that it has signed in by now, has the cookie that the request came with.
            let others =
                given(early).filter(|cookie| ended.act == Act::EndAll || ended.cookie.as_deref() != Some(*cookie));
            // Nor under an id that nobody was told, unless the store failed to end it.
            let is_alive = ended.act == Act::EndAll
                && !matches!(early.answer, Some(Answer::Failed(_)) | None)
                && run.alive().iter().any(|seen| seen.user == Some(early.number));
            if is_alive || others.into_iter().any(|cookie| run.seen_by(Some(cookie)).user == Some(early.number)) {
                return Err(format!("request {} is signed in after the end of all", early.number - 1));
            }
        }
    }
    Ok(())
}

/// Whether a sign-in may end other sessions.
fn has_limit(run: &Run) -> bool {
    run.scenario.parameters.contains("max_sessions")
}

/// The request that signed in whoever has this session: the last one that did.
fn sign_in_of<'a>(got: &'a [Got], seen: &Seen) -> Option<&'a Got> {
    let by = |number: &u32| got.iter().find(|got| got.number == *number && got.act.signs_in());
    seen.writes.iter().rev().find_map(by)
}

/// Which of the sessions that somebody has the id of were signed in by this act.
fn signed_in(run: &Run, got: &[Got], act: Act) -> Vec<Seen> {
    let is_by = |seen: &Seen| sign_in_of(got, seen).is_some_and(|by| by.act == act);
    known_sessions(run, got).into_iter().filter(is_by).collect()
}

/// Also one who was signed in before as somebody else, or had another session.
fn who_ends_the_others_stays(run: &Run, got: &[Got]) -> Result<(), String> {
    for ended in got.iter().filter(|got| got.act == Act::EndOthers && got.replied().is_some()) {
        let is_before = |other: &&Got| other.ended.is_some_and(|at| at < ended.began) && other.replied().is_some();
        let of_same = got.iter().filter(|other| other.browser == ended.browser && other.number != ended.number);
        let is_quiet = of_same.clone().all(|other| is_before(&other) || !other.act.logs_in());
        let is_alone = got
            .iter()
            .filter(|other| other.number != ended.number)
            .all(|other| !other.act.ends_sessions() || other.act == Act::SignInOther && is_before(&other));
        let was_signed_in = ended.notes.borrow().saw.iter().all(|seen| {
            got.iter()
                .any(|got| got.act == Act::SignIn && got.browser == ended.browser && Some(got.number) == seen.user)
        });
        let is_young = run.now() - crate::world::NOW < 100;
        if is_quiet
            && is_alone
            && was_signed_in
            && is_young
            && run.lost_replies.get() == 0
            && run.seen_by(run.jar(ended.browser).as_deref()).user.is_none()
        {
            return Err(format!("request {} ended its own session with the others", ended.number - 1));
        }
    }
    Ok(())
}

/// When all sign-ins are done, and none failed.
fn no_more_sessions_than_there_may_be(run: &Run, got: &[Got]) -> Result<(), String> {
    let Some((_, most)) = run.scenario.parameters.split_once("\"max_sessions\": ") else { return Ok(()) };
    let most: usize = most.trim_end_matches('}').parse().unwrap();
    let has_failed = got.iter().any(|got| matches!(got.answer, Some(Answer::Failed(_)) | None));
    let left = signed_in(run, got, Act::SignIn);
    if !has_failed && left.len() > most {
        return Err(format!("{} sessions are left, and there may be {most}: {left:?}", left.len()));
    }
    let has_signed_in = got.iter().any(|got| got.act == Act::SignIn && has_moved(got));
    if !has_failed && has_signed_in && left.is_empty() && got.iter().all(|got| !got.act.ends_sessions()) {
        return Err("the limit ended all".to_owned());
    }
    Ok(())
}

/// Each session that somebody has the id of is on its user's list, once, and an end of all ends it, and no other user's.
fn a_users_sessions_are_listed_and_end(run: &Run, got: &[Got]) -> Result<(), String> {
    if run.kind == Kind::Kv || got.iter().all(|got| !got.act.signs_in()) {
        return Ok(());
    }
    let (theirs, others) = (signed_in(run, got, Act::SignIn), signed_in(run, got, Act::SignInOther));
    let listed = run.calmly(async |sessions| sessions.of(USER).list().await).map_err(|error| error.to_string())?;
    let at_last = listed.iter().map(|session| session.handle.as_str().to_owned()).collect();
    for handles in got.iter().map(|got| got.notes.borrow().listed.clone()).chain([at_last]) {
        let once: BTreeSet<_> = handles.iter().collect();
        if once.len() != handles.len() {
            return Err(format!("a session is listed twice: {handles:?}"));
        }
    }
    if listed.len() < theirs.len() {
        return Err(format!("{theirs:?} are signed in, and {} are listed", listed.len()));
    }
    // What is there at last, and was before a look, was there while it looked.
    for look in got.iter().filter(|got| got.act == Act::List && got.replied().is_some()) {
        let is_before =
            |seen: &&Seen| sign_in_of(got, seen).is_some_and(|by| by.ended.is_some_and(|at| at < look.began));
        let (there, listed) = (theirs.iter().filter(is_before).count(), look.notes.borrow().listed.len());
        if listed < there {
            return Err(format!("{there} were signed in, and request {} listed {listed}", look.number - 1));
        }
    }
    if signed_in(run, got, Act::SignIn) != theirs {
        return Err("a look at the list ended a session".to_owned());
    }
    run.calmly(async |sessions| sessions.of(USER).end_all().await).map_err(|error| error.to_string())?;
    if let left @ [_, ..] = &signed_in(run, got, Act::SignIn)[..] {
        return Err(format!("{left:?} are left after the end of all"));
    }
    if signed_in(run, got, Act::SignInOther) != others {
        return Err("another user's session ended with them".to_owned());
    }
    Ok(())
}
