//! What fits on the screen, and how.

use std::time::Duration;

use std::panic::Location;
use std::time::SystemTime;

use poolproof_pool::{Activity, Backend, Config, OpenTransaction, Reaped, Stale};

use super::*;

fn session(pid: i32) -> OpenSession {
    OpenSession {
        backend: Backend {
            pid,
            started: SystemTime::UNIX_EPOCH,
            role: 10,
        },
        location: Location::caller(),
        open_for: Duration::from_millis(62_500),
        statements: 12,
        activity: Activity::Running,
        activity_for: Duration::from_millis(7_250),
        transaction: Some(OpenTransaction {
            open_for: Duration::from_secs(61),
            statements: 3,
        }),
        last_statement: Some("select ? from t".repeat(9)),
        reaped: None,
    }
}

#[test]
fn a_line_tells_all_about_a_session_and_is_no_wider_than_its_parts() {
    let mut session = session(4711);
    let line = Line(&session).to_string();
    let [head, tail] = line.split("  select").collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    assert_eq!(
        head,
        "    4711    1m02s running       7.2 s       1m01s     12"
    );
    assert!(tail.contains('…'), "{line}");
    assert!(tail.ends_with(&session.location.to_string()), "{line}");
    session.transaction = None;
    session.reaped = Some(Reaped {
        stale: Stale::Session,
        after: Duration::from_secs(62),
        limit: Duration::from_secs(60),
    });
    let line = Line(&session).to_string();
    assert!(
        line.starts_with("    4711    1m02s ended         7.2 s           -     12"),
        "{line}"
    );
}

/// Goal: the oldest sessions are on the screen, however many there are.
#[tokio::test]
async fn a_summary_of_many_sessions_still_fits_on_one_screen() {
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass();
    let pool = Pool::new(PgConnector::new(options), Config::default()).unwrap();
    let mut summary = Summary::of(&pool);
    let text = summary.to_string();
    assert_eq!(
        text,
        "pool_size 5, max_overflow 10: 0 out, 0 idle, 0 opening, 0 closing; 0 waiting\n\
         open sessions: 0, in a transaction: 0"
    );
    summary.sessions = (1..=50).map(session).collect();
    let text = summary.to_string();
    assert_eq!(text.lines().count(), 24, "{text}");
    assert!(
        text.contains("open sessions: 50, in a transaction: 50"),
        "{text}"
    );
    assert!(
        text.contains("\n      20 ") && !text.contains("\n      21 "),
        "{text}"
    );
    assert!(text.ends_with("… and 30 younger ones"), "{text}");
}

#[test]
fn a_long_statement_is_cut_to_what_its_column_holds() {
    let fits = "ä".repeat(STATEMENT_MAX);
    assert_eq!(cut(&fits), fits);
    let cut = cut(&(fits + "x"));
    assert_eq!(cut, "ä".repeat(STATEMENT_MAX - 1) + "…");
}
