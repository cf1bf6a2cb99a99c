//! The short fuzz of what the crate reads; `just fuzz` goes on for longer.

#[path = "../../../fuzz/short.rs"]
mod short;
#[path = "../../../fuzz/properties/url.rs"]
mod url;

#[test]
fn a_url_shows_its_password_nowhere_and_reads_the_same_when_shown() {
    let words = [
        "postgres://",
        "postgresql+asyncpg://",
        "app",
        "@",
        "db.example",
        "[::1]",
        "127.0.0.1",
        ":5432",
        "/shop",
        "%2Fvar%2Frun",
        "?",
        "sslmode=require",
        "ssl=true",
        "host=",
        "hostaddr=",
        "port=",
        "user=",
        "password=",
        "dbname=",
        "application_name=",
        "options=",
        "sslrootcert=",
        "statement-cache-capacity=",
        "target_session_attrs=",
        "channel_binding=",
        "service=",
        "connect_timeout=3",
        "options[",
        "-c%20timezone=",
        "&",
        "%40",
        "%3A",
        "%2C",
        "s3cret",
    ];
    short::fuzz("url", 20_000, &words, url::check);
}
