//! The pages: HTML without scripts. Whatever a visitor wrote goes through [`escaped`].

use edge_session::{Refusal, SessionHandle, UserSession};
use worker::{Response, Result};

const STYLE: &str = "body { max-width: 36rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif } \
    label { display: block; margin: .5rem 0 } [role=alert] { color: #a00 } li { margin: 1rem 0 } form { margin: .5rem 0 }";

/// Below a page.
const HOME: &str = "<p><a href=\"/\">Home</a></p>";

/// And below each page behind the sign-in (ASVS 5.0, 7.4.4).
const SIGN_OUT: &str = "<form method=\"post\" action=\"/sign-out\"><button>Sign out</button></form>";

/// As text, and as an attribute's value in quotation marks.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            _ => safe.push(character),
        }
    }
    safe
}

/// `body` is HTML, `title` and `notice` are text.
fn page(status: u16, title: &str, notice: Option<&str>, body: &str) -> Result<Response> {
    let notice = notice.map(|notice| format!("<p role=\"status\">{}</p>", escaped(notice))).unwrap_or_default();
    let title = escaped(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style>\
         <h1>{title}</h1>{notice}{body}</html>"
    );
    Response::builder()
        .with_status(status)
        // No script runs, in whatever way it came here; forms go nowhere else; and no page of another site frames this one.
        .with_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        )?
        .with_header("X-Content-Type-Options", "nosniff")?
        .with_header("Referrer-Policy", "same-origin")?
        .from_html(html)
}

/// To another page, after a form.
pub(crate) fn see_other(path: &str) -> Result<Response> {
    Ok(Response::builder().with_status(303).with_header("Location", path)?.empty())
}

pub(crate) fn home(user: Option<&str>, notice: Option<&str>) -> Result<Response> {
    let body = match user {
        Some(user) => format!(
            "<p>You are signed in as <strong>{}</strong>.</p>\
             <p><a href=\"/devices\">Your devices</a> · <a href=\"/password\">Change your password</a></p>{SIGN_OUT}",
            escaped(user)
        ),
        None => {
            "<p>You are not signed in.</p><p><a href=\"/sign-in\">Sign in</a> · <a href=\"/sign-up\">Sign up</a></p>"
                .to_owned()
        }
    };
    page(200, "Accounts", notice, &body)
}

/// 200 for an empty form, 422 for one with something to mend. `fields` and `below` are HTML.
fn form(
    title: &str,
    path: &str,
    notice: Option<&str>,
    objection: Option<&str>,
    fields: &str,
    below: &str,
) -> Result<Response> {
    let status = if objection.is_some() { 422 } else { 200 };
    let objection = objection.map(|text| format!("<p role=\"alert\">{}</p>", escaped(text))).unwrap_or_default();
    let body = format!(
        "{objection}<form method=\"post\" action=\"{path}\">{fields}<button>{title}</button></form>{HOME}{below}"
    );
    page(status, title, notice, &body)
}

pub(crate) fn sign_up(name: &str, objection: Option<&str>) -> Result<Response> {
    let fields = format!(
        "<label>Name <input name=\"name\" value=\"{}\" autocomplete=\"username\"></label>\
         <label>Password, of 8 characters or more <input type=\"password\" name=\"password\" autocomplete=\"new-password\"></label>",
        escaped(name)
    );
    form("Sign up", "/sign-up", None, objection, &fields, "")
}

pub(crate) fn sign_in(name: &str, notice: Option<&str>, objection: Option<&str>) -> Result<Response> {
    let fields = format!(
        "<label>Name <input name=\"name\" value=\"{}\" autocomplete=\"username\"></label>\
         <label>Password <input type=\"password\" name=\"password\" autocomplete=\"current-password\"></label>\
         <label><input type=\"checkbox\" name=\"stay\" value=\"yes\"> Stay signed in for 30 days</label>",
        escaped(name)
    );
    form("Sign in", "/sign-in", notice, objection, &fields, "")
}

pub(crate) fn password(objection: Option<&str>) -> Result<Response> {
    let fields = "<label>Your password <input type=\"password\" name=\"old\" autocomplete=\"current-password\"></label>\
         <label>The new one <input type=\"password\" name=\"new\" autocomplete=\"new-password\"></label>";
    form("Change your password", "/password", None, objection, fields, SIGN_OUT)
}

/// `own` is what this session is called, and `now` is in seconds since 1970 UTC.
pub(crate) fn devices(
    listed: &[UserSession],
    own: Option<&SessionHandle>,
    now: u64,
    notice: Option<&str>,
) -> Result<Response> {
    let mut body = "<ul>".to_owned();
    for session in listed {
        let end = format!(
            "<form method=\"post\" action=\"/devices/end\"><input type=\"hidden\" name=\"handle\" value=\"{}\">\
             <button>End this session</button></form>",
            session.handle
        );
        body += &format!(
            "<li><strong>{}</strong>{}<br>signed in {}, last used {}{end}</li>",
            escaped(session.label.as_deref().unwrap_or("A browser")),
            if Some(&session.handle) == own { " – this one" } else { "" },
            ago(now, session.authenticated_at),
            ago(now, session.used_at),
        );
    }
    body += "</ul><form method=\"post\" action=\"/devices/end-others\"><button>Sign out all others</button></form>";
    body += HOME;
    body += SIGN_OUT;
    page(200, "Your devices", notice, &body)
}

pub(crate) fn no_devices(notice: Option<&str>) -> Result<Response> {
    let sentence = "Here they cannot be listed. A change of your password signs out all others.";
    page(200, "Your devices", notice, &format!("<p>{sentence}</p>{HOME}{SIGN_OUT}"))
}

/// How long ago, in the largest unit that is full.
fn ago(now: u64, then: u64) -> String {
    let seconds = now.saturating_sub(then);
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    match units.iter().find(|(length, _)| seconds >= *length) {
        None => "just now".to_owned(),
        Some((length, unit)) => match seconds.checked_div(*length).unwrap_or_default() {
            1 => format!("1 {unit} ago"),
            count => format!("{count} {unit}s ago"),
        },
    }
}

pub(crate) fn too_long() -> Result<Response> {
    page(413, "Too long", None, "<p>That form is too long, so nothing was done. <a href=\"/\">Home</a></p>")
}

pub(crate) fn not_found() -> Result<Response> {
    page(404, "Not found", None, "<p>There is no such page. <a href=\"/\">Home</a></p>")
}

/// What is wrong here and not with the visitor. The log says what.
pub(crate) fn failed() -> Result<Response> {
    page(503, "Not now", None, "<p>This did not work. Please try again in a moment. <a href=\"/\">Home</a></p>")
}

/// In the handler's place: the session has ended, another site sent the request, or the store fails.
pub(crate) fn refused(refusal: &Refusal) -> Response {
    let title = match refusal.status {
        401 => "You are signed out",
        403 => "Refused",
        _ => "Not now",
    };
    let body = format!("<p>{} <a href=\"/\">Home</a></p>", escaped(&refusal.text));
    page(refusal.status, title, None, &body).unwrap_or_else(|_| Response::builder().with_status(refusal.status).empty())
}
