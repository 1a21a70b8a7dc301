//! Accounts: sign up, sign in and out, see and end one's sessions, change the password. Plain HTML pages; each form goes by POST,
//! and is answered by a redirect, 303, or by itself with a sentence on what to mend, 422.
//!
//! A handler runs again where another request of the session was faster. So each form is read from a copy of the request, and
//! what is done outside the session may be done twice, or comes after a `save`.
//!
//! What a real one needs beside this: a limit on attempts (ASVS 5.0, 6.3.1; Workers have a rate limiting binding), a list
//! of passwords that are too common (6.2.4), and a way back for who has forgotten theirs.

mod browser;
mod form;
mod pages;
mod password;
mod sweep;
mod users;

use std::time::Duration;

use edge_session::{Session, SessionHandle, Sessions, StoreKind};
use serde::{Deserialize, Serialize};
use worker::{Context, Date, Env, Method, Request, Response, Result, console_error, event};

use form::Form;
use users::{User, Users};

/// The Durable Object, where `store = "object"`.
pub use edge_session::SessionObject;

/// For who wants to stay signed in.
const STAY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// To end sessions one has to have given the password in the last so many seconds (ASVS 5.0, 7.5.2).
const FRESH: u64 = 15 * 60;

/// A name has so many characters, and with that 256 bytes at most, as many as `sign_in` takes.
const LONGEST_NAME: usize = 64;

/// One sentence for both, so that it tells nobody who has an account (ASVS 5.0, 6.3.8).
const WRONG: &str = "The name or the password is wrong.";

/// What a session holds. Whose it is, the session knows by itself.
#[derive(Default, Serialize, Deserialize)]
struct Visitor {
    /// For the next page, which shows it once.
    notice: Option<String>,
    /// Whether they asked to stay signed in.
    stays: bool,
    /// The stamp of the password that they were signed in by, for KV.
    stamp: String,
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    let handler = async |session: &mut Session<Visitor>| answer(&request, &env, session).await;
    // What fails in the handler, as the table of the users, is in the log, and a page.
    edge_session::serve_with(&request, &env, pages::refused, handler).await.or_else(|error| {
        console_error!("accounts: {error}");
        pages::failed()
    })
}

async fn answer(request: &Request, env: &Env, session: &mut Session<Visitor>) -> Result<Response> {
    if form::is_too_long(request).await {
        return pages::too_long();
    }
    let (sessions, users) = (Sessions::from_env(env)?, Users::from_env(env)?);
    if sessions.parameters().store == StoreKind::Kv && password_was_changed(&users, session).await? {
        session.sign_out();
        return pages::see_other("/sign-in");
    }
    let method = if request.method() == Method::Head { Method::Get } else { request.method() };
    match (method, request.path().as_str()) {
        (Method::Get, "/") => {
            let notice = session.notice.take();
            pages::home(session.user(), notice.as_deref())
        }
        (Method::Get, "/sign-up") => pages::sign_up("", None),
        (Method::Post, "/sign-up") => sign_up(request, &users, session).await,
        (Method::Get, "/sign-in") => {
            let notice = session.notice.take();
            pages::sign_in(session.user().unwrap_or_default(), notice.as_deref(), None)
        }
        (Method::Post, "/sign-in") => sign_in(request, &users, session).await,
        // By POST: a link on another site must not sign anybody out.
        (Method::Post, "/sign-out") => {
            session.sign_out();
            pages::see_other("/")
        }
        (method, path @ ("/devices" | "/devices/end" | "/devices/end-others" | "/password")) => {
            let Some(user) = session.user().map(str::to_owned) else { return pages::see_other("/sign-in") };
            match (method, path) {
                (Method::Get, "/devices") => devices(&sessions, session, &user).await,
                (Method::Post, "/devices/end") => end(request, &sessions, session, &user).await,
                (Method::Post, "/devices/end-others") => end_others(&sessions, session, &user).await,
                (Method::Get, "/password") => pages::password(None),
                (Method::Post, "/password") => change_password(request, &sessions, &users, session, &user).await,
                _ => pages::not_found(),
            }
        }
        _ => pages::not_found(),
    }
}

/// KV cannot find a user's sessions to end them. So each of them keeps a stamp of the password, and is compared at each load.
async fn password_was_changed(users: &Users, session: &Session<Visitor>) -> Result<bool> {
    let Some(name) = session.user() else { return Ok(false) };
    let stamp = users.find(name).await?.map(|user| password::stamp(&user.hash));
    Ok(stamp.as_ref() != Some(&session.stamp))
}

async fn sign_up(request: &Request, users: &Users, session: &mut Session<Visitor>) -> Result<Response> {
    let form = Form::of(request).await;
    let (name, password) = (form.field("name").trim().to_owned(), form.field("password"));
    if let Some(objection) = objection_to_name(&name).or_else(|| password::objection(&password)) {
        return pages::sign_up(&name, Some(objection));
    }
    let hash = password::hash(&password)?;
    let user = if users.add(&name, &hash).await? {
        User { name, hash }
    } else {
        match users.find(&name).await? {
            // By this very form, which was sent twice, or whose handler runs again: its password is the right one.
            Some(user) if password::is_right(&password, Some(&user.hash)) => user,
            _ => return pages::sign_up(&name, Some("That name is taken: please choose another one.")),
        }
    };
    enter(request, session, &user, false)?;
    pages::see_other("/")
}

fn objection_to_name(name: &str) -> Option<&'static str> {
    match name.chars().count() {
        0 => Some("Please choose a name."),
        1..=LONGEST_NAME if name.chars().any(char::is_control) => {
            Some("That name cannot be written: please choose another one.")
        }
        1..=LONGEST_NAME => None,
        _ => Some("That name is too long: please take 64 characters or fewer."),
    }
}

async fn sign_in(request: &Request, users: &Users, session: &mut Session<Visitor>) -> Result<Response> {
    let form = Form::of(request).await;
    let (name, password) = (form.field("name").trim().to_owned(), form.field("password"));
    if name.is_empty() || password.is_empty() {
        return pages::sign_in(&name, None, Some("Please fill in both fields."));
    }
    let user = users.find(&name).await?;
    let is_right = password::is_right(&password, user.as_ref().map(|user| user.hash.as_str()));
    let Some(user) = user.filter(|_| is_right) else {
        return pages::sign_in(&name, None, Some(WRONG));
    };
    enter(request, session, &user, !form.field("stay").is_empty())?;
    pages::see_other("/")
}

/// Makes the session this user's, with a new id.
fn enter(request: &Request, session: &mut Session<Visitor>, user: &User, stays: bool) -> Result<()> {
    if stays {
        session.sign_in_for(&user.name, STAY)?;
    } else {
        session.sign_in(&user.name)?;
    }
    session.set_label(browser::name_of(&request.headers().get("User-Agent")?.unwrap_or_default()));
    // Nothing of who was here before.
    **session = Visitor { notice: None, stays, stamp: password::stamp(&user.hash) };
    Ok(())
}

async fn devices(sessions: &Sessions, session: &mut Session<Visitor>, user: &str) -> Result<Response> {
    let notice = session.notice.take();
    if sessions.parameters().store == StoreKind::Kv {
        return pages::no_devices(notice.as_deref());
    }
    let listed = sessions.of(user).list().await?;
    pages::devices(&listed, session.handle(), now(), notice.as_deref())
}

async fn end(request: &Request, sessions: &Sessions, session: &mut Session<Visitor>, user: &str) -> Result<Response> {
    // What names no session of this user's ends none.
    let handle = SessionHandle::from_text(&Form::of(request).await.field("handle"));
    if handle.is_some() && handle.as_ref() == session.handle() {
        session.sign_out();
        return pages::see_other("/");
    }
    if !is_fresh(session) {
        return ask_for_password(session);
    }
    if let Some(handle) = handle {
        sessions.of(user).end(&handle).await?;
    }
    pages::see_other("/devices")
}

async fn end_others(sessions: &Sessions, session: &mut Session<Visitor>, user: &str) -> Result<Response> {
    if !is_fresh(session) {
        return ask_for_password(session);
    }
    let ended = sessions.of(user).end_others(session).await?;
    // By `update`, so that this runs once: a second time there would be none.
    session.update(|visitor| visitor.notice = Some(signed_out(ended))).await?;
    pages::see_other("/devices")
}

fn is_fresh(session: &Session<Visitor>) -> bool {
    session.authenticated_at().is_some_and(|at| now().saturating_sub(at) < FRESH)
}

fn ask_for_password(session: &mut Session<Visitor>) -> Result<Response> {
    session.notice = Some("Please give your password again, and then go back to your devices.".to_owned());
    pages::see_other("/sign-in")
}

async fn change_password(
    request: &Request,
    sessions: &Sessions,
    users: &Users,
    session: &mut Session<Visitor>,
    name: &str,
) -> Result<Response> {
    let form = Form::of(request).await;
    let (old, new) = (form.field("old"), form.field("new"));
    if let Some(objection) = password::objection(&new) {
        return pages::password(Some(objection));
    }
    let Some(user) = users.find(name).await? else { return pages::password(Some("That is not your password.")) };
    let hash = if password::is_right(&old, Some(&user.hash)) {
        password::hash(&new)?
    } else if password::is_right(&new, Some(&user.hash)) {
        // An earlier try was cut short: it is changed, and the others may be in still.
        user.hash.clone()
    } else {
        return pages::password(Some("That is not your password."));
    };
    // A new id. What follows the `save` runs once: in a second run the old password would be the wrong one.
    let stays = session.stays;
    enter(request, session, &user, stays)?;
    session.save().await?;
    // From here on each failure is told by a reply: an `Err` would carry no cookie, and with that not the new id.
    let (is_changed, notice) = match users.change_hash(&user, &hash).await {
        Ok(true) => (true, sign_out_others(sessions, session, &user).await),
        Ok(false) => {
            (false, "Your password was changed elsewhere at the same time: it is as it was set there.".to_owned())
        }
        Err(error) => {
            console_error!("accounts: {error}");
            (false, "Your password could not be changed. Please try again in a moment.".to_owned())
        }
    };
    let noted = session.update(|visitor| {
        visitor.notice = Some(notice.clone());
        if is_changed {
            visitor.stamp = password::stamp(&hash);
        }
    });
    if let Err(error) = noted.await {
        console_error!("accounts: {error}");
    }
    pages::see_other("/devices")
}

/// Signs out whoever came in by the old password, and says so.
async fn sign_out_others(sessions: &Sessions, session: &Session<Visitor>, user: &User) -> String {
    if sessions.parameters().store == StoreKind::Kv {
        return "Your password is changed. All others will be signed out.".to_owned();
    }
    match sessions.of(&user.name).end_others(session).await {
        Ok(ended) => format!("Your password is changed. {}", signed_out(ended)),
        Err(error) => {
            console_error!("accounts: {error}");
            "Your password is changed, but not all others may be signed out. Please do that here.".to_owned()
        }
    }
}

fn signed_out(count: u64) -> String {
    match count {
        0 => "There were no others to sign out.".to_owned(),
        1 => "1 other was signed out.".to_owned(),
        count => format!("{count} others were signed out."),
    }
}

/// In seconds since 1970 UTC.
fn now() -> u64 {
    Date::now().as_millis().checked_div(1000).unwrap_or_default()
}
