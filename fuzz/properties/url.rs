//! What holds for every text that is read as a database URL.

use percent_encoding::percent_decode_str;
use poolproof_url::{DatabaseUrl, UrlError};

/// Stands in passwords, and must not be seen anywhere else.
const SECRET: &str = "s3cret";

/// Longer is a message only if it repeats what was typed, which may be a password.
const MESSAGE_MAX: usize = 300;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match text.parse::<DatabaseUrl>() {
        Ok(url) => accepted(text, &url),
        Err(error) => refused(text, &error),
    }
    password_in_the_login(&format!("{SECRET}{text}"));
    password_in_the_login(&format!("{text}{SECRET}"));
    password_in_the_query(text);
}

fn accepted(text: &str, url: &DatabaseUrl) {
    let options = url.options();
    let connects_to = options.get_socket().map_or_else(
        || options.get_host().to_owned(),
        |socket| socket.to_string_lossy().into_owned(),
    );
    assert_eq!(
        url.host(),
        connects_to,
        "{text:?}: what is judged is what is connected to"
    );
    let (user, database) = (url.user(), url.database());
    for part in [url.host(), user, database.unwrap_or_default()] {
        assert!(!part.contains('\0'), "{text:?}: ends early for the server");
    }
    for part in [options.get_options(), options.get_application_name()] {
        let ends_early = part.is_some_and(|part| part.contains('\0'));
        assert!(!ends_early, "{text:?}: ends early for the server");
    }
    let shown = url.to_string();
    assert_eq!(format!("{url:?}"), format!("DatabaseUrl({shown})"));
    let again: DatabaseUrl = shown.parse().unwrap_or_else(|error| {
        panic!("{text:?} is shown as {shown:?}, which is refused: {error}")
    });
    assert_eq!(
        (again.host(), again.port(), again.user(), again.database()),
        (url.host(), url.port(), user, database),
        "{text:?} is shown as {shown:?}"
    );
    assert_eq!(again.to_string(), shown, "{text:?}");
    assert_eq!(again.is_loopback(), url.is_loopback(), "{text:?}");
}

fn refused(text: &str, error: &UrlError) {
    let shown = error.to_string();
    let path = match error {
        UrlError::File { path, .. } | UrlError::Content { path, .. } => {
            format!("{path:?}{}", path.display()).len()
        }
        _ => 0,
    };
    let most = MESSAGE_MAX + path;
    assert!(
        shown.len() <= most && format!("{error:?}").len() <= most,
        "{shown}"
    );
    let part = match error {
        UrlError::NoScheme => "postgresql://",
        UrlError::Scheme { scheme } => {
            assert!(text.contains(scheme), "{text:?}");
            scheme
        }
        UrlError::Port => "port",
        UrlError::Bracket => "address in brackets",
        UrlError::SeveralHosts => "hosts",
        UrlError::Encoding { part } => part,
        UrlError::Fragment => "`#`",
        UrlError::QuestionMark => "`?`",
        UrlError::NoBrackets => "in brackets",
        UrlError::NoUser => "user",
        UrlError::Value { name, .. } | UrlError::Unsupported { name, .. } => name,
        UrlError::Unknown { name, nearest } => {
            assert!(
                nearest.is_none_or(|nearest| shown.contains(nearest)),
                "{text:?}"
            );
            name.as_deref().unwrap_or("unknown parameter")
        }
        UrlError::File { name, path, .. } | UrlError::Content { name, path, .. } => {
            assert!(
                shown.contains(&path.display().to_string()),
                "{text:?}: {shown}"
            );
            name
        }
    };
    assert!(shown.contains(part), "{text:?}: {shown}");
}

/// Whatever a password holds that was not encoded: it is taken for the password, or refused.
fn password_in_the_login(password: &str) {
    let text = format!("postgresql://app:{password}@db.example:6432/shop?application_name=x");
    let url: DatabaseUrl = match text.parse() {
        Ok(url) => url,
        Err(error) => {
            hidden(&text, &error);
            return refused(&text, &error);
        }
    };
    hidden(&text, &url);
    assert_eq!(url.to_string(), "postgresql://app:***@db.example:6432/shop");
    assert!(url.ignored().is_empty(), "{text:?}: {:?}", url.ignored());
    let decoded = percent_decode_str(password)
        .decode_utf8()
        .unwrap_or_else(|_| panic!("{text:?} is accepted"));
    // sqlx shows a password only in its `Debug`.
    let options = format!("{:?}", url.options());
    assert!(
        options.contains(&format!("password: Some({decoded:?})")),
        "{text:?}"
    );
}

fn password_in_the_query(rest: &str) {
    let text = format!("postgresql://app@db.example/shop?{rest}&password={SECRET}");
    match text.parse::<DatabaseUrl>() {
        Ok(url) => {
            hidden(&text, &url);
            let ignored = url.ignored().join(" ");
            assert!(
                rest.contains(SECRET) || !ignored.contains(SECRET),
                "{text:?}"
            );
            accepted(&text, &url);
        }
        Err(error) => {
            hidden(&text, &error);
            refused(&text, &error);
        }
    }
}

/// Asserts that neither form of showing a value shows the password. `planted` has it once only, so
/// that it cannot be elsewhere by chance.
fn hidden(planted: &str, value: &(impl std::fmt::Display + std::fmt::Debug)) {
    if planted.matches(SECRET).count() == 1 {
        let shown = format!("{value} {value:?}");
        assert!(!shown.contains(SECRET), "{planted:?}: {shown}");
    }
}
