//! The records of sessions, on a paused clock.

use std::time::SystemTime;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

const PATIENCE: Patience = Patience {
    session: Some(Duration::from_secs(10)),
    idle_in_transaction: Some(Duration::from_secs(3)),
};

fn backend(pid: i32) -> Backend {
    Backend {
        pid,
        started: SystemTime::UNIX_EPOCH,
        role: 10,
    }
}

fn track(pid: i32) -> Arc<Track> {
    Arc::new(Track::new(backend(pid), Pinned::Connection))
}

#[track_caller]
fn opened(registry: &Registry, pid: i32) -> Arc<Track> {
    let track = track(pid);
    registry.add(&track);
    track.open(Location::caller(), Instant::now());
    track
}

fn doomed(scan: &Scan) -> Vec<(i32, Stale)> {
    let Scan::Sessions { doomed, .. } = scan else {
        panic!("{scan:?}")
    };
    doomed
        .iter()
        .map(|doomed| {
            let target = doomed.target.expect("it may be ended");
            (target.backend.pid, doomed.reaped.stale)
        })
        .collect()
}

fn next(scan: &Scan) -> Option<Instant> {
    match scan {
        Scan::Sessions { next, .. } => *next,
        Scan::NothingToWatch => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_listing_tells_who_since_when_and_in_which_transaction() {
    let registry = Registry::default();
    let (line, first) = (line!(), opened(&registry, 1));
    tokio::time::advance(SECOND).await;
    let second = opened(&registry, 2);
    first.depart(Errand::Begin).unwrap();
    first.arrive();
    tokio::time::advance(SECOND).await;
    first
        .depart(Errand::Statement("insert into t values ('s3cret', 17)"))
        .unwrap();
    tokio::time::advance(SECOND).await;
    let [one, two] = &registry.sessions()[..] else {
        panic!("{:?}", registry.sessions())
    };
    assert_eq!((one.backend.pid, two.backend.pid), (1, 2), "oldest first");
    assert_eq!(
        (one.location.file(), one.location.line(), one.open_for),
        (file!(), line, 3 * SECOND)
    );
    assert_eq!(
        (one.activity, one.activity_for, one.statements),
        (Activity::Running, SECOND, 1)
    );
    let transaction = OpenTransaction {
        open_for: 2 * SECOND,
        statements: 1,
    };
    assert_eq!(one.transaction, Some(transaction));
    assert_eq!(
        one.last_statement.as_deref(),
        Some("insert into t values ( ? , ? )")
    );
    assert!(!format!("{first:?}").contains("s3cret"), "{first:?}");
    assert_eq!(
        (two.activity, two.transaction, &two.last_statement),
        (Activity::Idle, None, &None)
    );
    first.arrive();
    first.left_transaction();
    assert_eq!(registry.sessions()[0].transaction, None);
    assert_eq!(first.close(), None);
    drop(second);
    assert_eq!(registry.sessions(), []);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_idle_in_a_transaction_for_too_long_is_stale_once() {
    let registry = Registry::default();
    let idle = opened(&registry, 1);
    let busy = opened(&registry, 2);
    let outside = opened(&registry, 3);
    for track in [&idle, &busy] {
        track.depart(Errand::Begin).unwrap();
        track.arrive();
    }
    tokio::time::advance(SECOND).await;
    busy.depart(Errand::Statement("select 1")).unwrap();
    let before = registry.scan(PATIENCE, Instant::now());
    assert_eq!(doomed(&before), []);
    assert_eq!(next(&before), Some(Instant::now() + 2 * SECOND));
    tokio::time::advance(2 * SECOND).await;
    let due = registry.scan(PATIENCE, Instant::now());
    assert_eq!(doomed(&due), [(1, Stale::IdleInTransaction)]);
    let again = registry.scan(PATIENCE, Instant::now());
    assert_eq!(doomed(&again), []);
    // The holder is told at its next call, and at the session's end.
    let told = idle.depart(Errand::Statement("select 1")).unwrap_err();
    assert_eq!((told.after, told.limit), (3 * SECOND, 3 * SECOND));
    assert_eq!(idle.close(), Some(told));
    assert_eq!((busy.close(), outside.close()), (None, None));
    assert_eq!(idle.close(), None, "nothing is left for the next session");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_open_for_too_long_is_stale_but_not_while_it_commits() {
    let registry = Registry::default();
    let committing = opened(&registry, 1);
    let running = opened(&registry, 2);
    committing.depart(Errand::Begin).unwrap();
    committing.arrive();
    committing.depart(Errand::Commit).unwrap();
    running.depart(Errand::Statement("select 1")).unwrap();
    tokio::time::advance(10 * SECOND).await;
    let due = registry.scan(PATIENCE, Instant::now());
    assert_eq!(doomed(&due), [(2, Stale::Session)]);
    assert!(running.arrive().is_some());
    assert_eq!(committing.arrive(), None);
    let due = registry.scan(PATIENCE, Instant::now());
    assert_eq!(doomed(&due), [(1, Stale::Session)]);
}

#[tokio::test(start_paused = true)]
async fn one_reaper_watches_for_as_long_as_there_are_connections() {
    let registry = Registry::default();
    let first = track(1);
    assert!(registry.add(&first), "the first needs a reaper");
    assert!(!registry.add(&track(2)), "it has one");
    let idle = registry.scan(PATIENCE, Instant::now());
    assert_eq!(
        next(&idle),
        Some(Instant::now() + 3 * SECOND),
        "a session that opens now is not due before"
    );
    drop(first);
    assert_eq!(
        registry.scan(PATIENCE, Instant::now()),
        Scan::NothingToWatch
    );
    assert!(registry.add(&track(3)));
}

/// Without a reaper nobody else looks through them.
#[test]
fn connections_that_are_gone_are_forgotten_when_another_comes() {
    let registry = Registry::default();
    for pid in 1..=100 {
        registry.add(&track(pid));
    }
    let last = track(101);
    registry.add(&last);
    assert_eq!(registry.lock().tracks.len(), 1);
}

/// A text may hold secrets wherever it is shown.
#[test]
fn a_debug_output_shows_the_words_of_a_statement_and_no_value() {
    let mut text = Text::EMPTY;
    text.set("select 's3cret' from t");
    assert_eq!(format!("{text:?}"), r#"Some("select ? from t")"#);
}

#[test]
fn long_texts_are_cut_between_characters() {
    let mut text = Text::EMPTY;
    assert_eq!(text.words(), None);
    let long = format!("{}ä rest", "x".repeat(TEXT_KEPT - 1));
    text.set(&long);
    assert_eq!(text.words().unwrap(), "x".repeat(TEXT_KEPT - 1) + "…");
    text.set("select 1");
    assert_eq!(text.words().unwrap(), "select ?");
}

/// Behind a pooler, a process serves one of ours from the answer to BEGIN until its end is sent.
#[tokio::test(start_paused = true)]
async fn a_process_that_may_serve_others_is_not_ended() {
    let serving = Target {
        backend: backend(7),
        began: Some(1),
    };
    for (errands, target) in [
        (&[][..], None),
        (&[Errand::Begin], Some(serving)),
        (&[Errand::Begin, Errand::Control], Some(serving)),
        (&[Errand::Begin, Errand::Rollback], None),
        (&[Errand::Begin, Errand::Commit], None),
    ] {
        let registry = Registry::default();
        let track = Arc::new(Track::new(backend(1), Pinned::Transaction));
        registry.add(&track);
        track.open(Location::caller(), Instant::now());
        for (index, errand) in errands.iter().enumerate() {
            track.depart(*errand).unwrap();
            if index == 0 {
                track.serve(serving);
            }
        }
        // Whatever it waits for, it is older than a session may be.
        track.arrive();
        tokio::time::advance(PATIENCE.session.unwrap()).await;
        let Scan::Sessions { doomed, .. } = registry.scan(PATIENCE, Instant::now()) else {
            panic!("it is watched")
        };
        assert_eq!(doomed[0].target, target, "{errands:?}");
        let shown = registry.sessions()[0].backend.pid;
        assert_eq!(shown, if target.is_some() { 7 } else { 1 });
    }
}
