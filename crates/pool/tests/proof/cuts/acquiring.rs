//! Interruptions of an acquire: while it connects, while it pings, while it waits for a reset.

use std::time::Duration;

use poolproof_pool::{AcquireError, Config, Session, Transaction};

use super::rig::{Reported, Rig};
use super::{Stop, Then, cuts, sweep};

fn two_connections() -> Config {
    Config {
        pool_size: 2,
        max_overflow: 0,
        ..Config::default()
    }
}

type Acquired = Result<Session, AcquireError<sqlx::Error>>;

/// Runs an acquire until the traffic stops, and then interrupts it, or until it ends.
async fn interrupt(
    rig: &Rig,
    stop: Stop,
    acquire: impl Future<Output = Acquired>,
) -> (bool, Option<Acquired>) {
    let mut acquire = Box::pin(acquire);
    let outcome = tokio::select! {
        biased;
        () = rig.relay.stopped() => None,
        outcome = &mut acquire => Some(outcome),
    };
    rig.relay.disarm();
    if outcome.is_some() {
        return (false, outcome);
    }
    if stop.then == Then::Drop {
        drop(acquire);
        rig.relay.open();
        return (true, None);
    }
    rig.relay.break_stopped().await;
    (true, Some(acquire.await))
}

/// An acquire goes on after the link broke: another connection serves it.
fn must_be_served(stop: Stop, outcome: Option<Acquired>) {
    if let Some(Err(error)) = outcome {
        panic!("{stop:?}: {error}");
    }
}

/// F7: connecting does not end with the acquire that caused it.
#[tokio::test]
async fn f7_connecting_may_end_at_any_message() {
    let mut rig = Rig::new("cut_connect", two_connections()).await;
    for then in [Then::Drop, Then::Break] {
        for &cut in cuts(then) {
            let places = sweep(then, cut, async |stop| {
                rig.relay.arm(stop.message, stop.cut);
                let (stopped, outcome) = interrupt(&rig, stop, rig.pool.session()).await;
                must_be_served(stop, outcome);
                rig.aftermath(stop, &Reported::Rows(vec![])).await;
                if then == Then::Drop {
                    assert_eq!(rig.pool.snapshot().opened_total, 2, "{stop:?}");
                }
                rig.renew().await;
                stopped
            });
            let places = places.await;
            assert!(places >= 20, "{then:?} {cut:?}: only {places} messages");
        }
    }
}

/// F6.
#[tokio::test]
async fn f6_a_ping_may_end_at_any_message() {
    let config = Config {
        pre_ping: true,
        pre_ping_after: Duration::ZERO,
        ..two_connections()
    };
    let mut rig = Rig::new("cut_ping", config).await;
    for then in [Then::Drop, Then::Break] {
        for &cut in cuts(then) {
            let places = sweep(then, cut, async |stop| {
                drop(rig.pool.session().await.unwrap());
                rig.relay.arm(stop.message, stop.cut);
                let (stopped, outcome) = interrupt(&rig, stop, rig.pool.session()).await;
                must_be_served(stop, outcome);
                rig.aftermath(stop, &Reported::Rows(vec![])).await;
                stopped
            });
            let places = places.await;
            assert!(places >= 2, "{then:?} {cut:?}: only {places} messages");
        }
    }
    rig.renew().await;
}

/// F5, F29: a connection that comes back dirty, with a transaction open, while another waits for it.
#[tokio::test]
async fn f5_f29_a_reset_may_end_at_any_message() {
    let mut rig = Rig::new("cut_reset", two_connections()).await;
    for then in [Then::Drop, Then::Break] {
        for &cut in cuts(then) {
            let places = sweep(then, cut, async |stop| {
                let other = rig.pool.session().await.unwrap();
                let mut session = rig.pool.session().await.unwrap();
                dirty(&rig, &mut session).await;
                rig.relay.arm(stop.message, stop.cut);
                drop(session);
                let (stopped, outcome) = interrupt(&rig, stop, rig.pool.session()).await;
                must_be_served(stop, outcome);
                drop(other);
                rig.aftermath(stop, &Reported::Rows(vec![])).await;
                stopped
            });
            let places = places.await;
            assert!(places >= 8, "{then:?} {cut:?}: only {places} messages");
        }
    }
    rig.renew().await;
}

/// Leaves a setting and an open transaction with a row.
async fn dirty(rig: &Rig, session: &mut Session) {
    session.execute("set work_mem = '64MB'").await.unwrap();
    let written = tokio::sync::Notify::new();
    let insert = rig.insert("lost");
    let work = session.transaction(async |tx: &mut Transaction<'_>| {
        tx.execute(insert).await.unwrap();
        written.notify_one();
        std::future::pending::<Result<(), ()>>().await
    });
    tokio::select! {
        outcome = work => panic!("{outcome:?}"),
        () = written.notified() => {}
    }
}
