//! What a refused acquire tells about the pool at that moment.

use super::fake::{Call, Gate};
use super::*;
use crate::error::ErrorKind;

#[tokio::test(start_paused = true)]
async fn f18_every_refusal_has_its_kind_and_the_pools_numbers_of_that_moment() {
    let (pool, fake) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        waiters_max: Some(1),
        ..Config::default()
    });
    let line = line!() + 1;
    let lease = pool.acquire().await.unwrap();
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());

    let full = pool.acquire().await.unwrap_err();
    let exhausted = waiter.await.unwrap_err();
    drop(lease);
    for (error, kind) in [
        (full, ErrorKind::QueueFull),
        (exhausted, ErrorKind::Exhausted),
    ] {
        assert_eq!(error.kind(), kind);
        let state = *error.pool_state().unwrap();
        assert_eq!((state.pool_size, state.max_overflow), (1, 0), "{kind}");
        assert_eq!((state.out, state.idle, state.waiting), (1, 0, 1), "{kind}");
        assert_eq!(state.oldest.unwrap().location.line(), line, "{kind}");
    }

    let (pool, _) = configured(Config::default());
    pool.close(Duration::ZERO).await;
    let closed = pool.acquire().await.unwrap_err();
    assert_eq!(
        (closed.kind(), closed.pool_state()),
        (ErrorKind::Closed, None)
    );
    drop(fake);
}

#[tokio::test(start_paused = true)]
async fn f18_connecting_that_fails_or_takes_too_long_has_its_kind_and_numbers() {
    for (gate, kind) in [
        (Gate::Never, ErrorKind::ConnectTimeout),
        (Gate::Error, ErrorKind::Down),
    ] {
        let (pool, fake) = pool(2, 0);
        fake.always(Call::Connect, gate);
        let within = Duration::from_secs(8);
        let error = pool.acquire().within(within).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        let state = error.pool_state().unwrap();
        assert_eq!((state.out, state.waiting), (0, 1), "{kind}");
    }
    let (pool, fake) = pool(2, 0);
    fake.always(Call::Connect, Gate::Permanent);
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.pool_state()),
        (ErrorKind::Rejected, None)
    );
}
