//! Closing, and leases that end in odd places.

use super::*;

const DEADLINE: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn close_ends_waiters_closes_what_is_idle_and_waits_for_leases() {
    let (pool, fake) = pool(2, 0);
    let leases = join_all([pool.acquire(), pool.acquire()]).await;
    let mut leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
    drop(leases.pop());
    let lease = leases.pop().unwrap();
    let other = pool.acquire().await.unwrap();
    let waiter = pool.acquire();
    let returned_later = async {
        settle().await;
        drop((lease, other));
    };
    let (report, refused, ()) = tokio::join!(pool.close(DEADLINE), waiter, returned_later);
    assert_eq!(report.holders, []);
    assert_eq!((report.cut_short, report.took), (0, Duration::ZERO));
    assert!(matches!(refused, Err(AcquireError::Closed)), "{refused:?}");
    assert!(matches!(pool.acquire().await, Err(AcquireError::Closed)));
    assert_eq!((numbers(&pool), fake.alive()), (NOTHING, 0));
    assert_eq!(fake.count(Call::Close), 2, "each was said goodbye to");
    assert_eq!(pool.close(DEADLINE).await.took, Duration::ZERO);
}

/// F28: a leaked lease does not keep `close` waiting, and is named.
#[tokio::test(start_paused = true)]
async fn f28_close_returns_at_its_deadline_and_names_who_holds_a_leaked_lease() {
    let (pool, _) = pool(2, 0);
    let line = line!() + 1;
    std::mem::forget(pool.acquire().await.unwrap());
    assert_eq!(pool.snapshot().out, 1, "a leak shows");
    let report = pool.close(DEADLINE).await;
    assert!(
        report.took <= DEADLINE + Duration::from_millis(2),
        "{report:?}"
    );
    let [holder] = report.holders[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        (holder.location.file(), holder.location.line()),
        (file!(), line)
    );
    assert_eq!(pool.holders().len(), 1, "out for ever");
}

#[tokio::test(start_paused = true)]
async fn close_is_not_kept_waiting_by_a_connect_a_reset_or_a_goodbye_that_hangs() {
    let (pool, fake) = configured(Config {
        pool_size: 3,
        max_overflow: 0,
        reset_timeout: Duration::from_secs(1000),
        close_timeout: Duration::from_secs(1000),
        connect_timeout: Duration::from_secs(1000),
        ..Config::default()
    });
    let leases = join_all([pool.acquire(), pool.acquire()]).await;
    let mut leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
    for call in [Call::Connect, Call::Reset, Call::Close] {
        fake.always(call, Gate::Never);
    }
    leases[0].get_mut();
    let mut connecting = pool.acquire();
    assert!(poll_once(&mut connecting).is_pending());
    drop(leases);
    settle().await;
    let report = pool.close(DEADLINE).await;
    assert!(
        report.took <= DEADLINE + Duration::from_millis(2),
        "{report:?}"
    );
    assert_eq!(
        (report.holders.len(), report.cut_short),
        (0, 2),
        "{report:?}"
    );
    settle().await;
    assert_eq!(
        (numbers(&pool), fake.alive()),
        (NOTHING, 0),
        "no task is left"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_comes_back_to_a_closed_pool_is_closed() {
    let (pool, fake) = pool(2, 0);
    let lease = pool.acquire().await.unwrap();
    let report = pool.close(DEADLINE).await;
    assert_eq!(report.holders.len(), 1);
    drop(lease);
    settle().await;
    assert_eq!((numbers(&pool), fake.alive()), (NOTHING, 0));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_nobody_took_is_closed_with_the_pool() {
    let (pool, fake) = pool(1, 0);
    let lease = pool.acquire().await.unwrap();
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    drop(lease);
    let report = pool.close(DEADLINE).await;
    assert_eq!(report.holders, []);
    assert!(matches!(
        poll_once(&mut waiter),
        Poll::Ready(Err(AcquireError::Closed))
    ));
    assert_eq!(fake.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_drops_the_connections() {
    let (pool, fake) = pool(2, 0);
    let lease = pool.acquire().await.unwrap();
    drop(pool.acquire().await.unwrap());
    drop(pool);
    assert_eq!(fake.alive(), 2, "the lease keeps it all");
    drop(lease);
    settle().await;
    assert_eq!(fake.alive(), 0);
}

/// F22, rule 25: on a plain thread, whatever the lease's fate.
#[test]
fn f22_leases_may_be_dropped_on_a_plain_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (pool, fake, clean, mut dirty) = runtime.block_on(async {
        let (pool, fake) = pool(2, 0);
        let clean = pool.acquire().await.unwrap();
        let dirty = pool.acquire().await.unwrap();
        (pool, fake, clean, dirty)
    });
    dirty.get_mut();
    std::thread::spawn(move || drop((clean, dirty)))
        .join()
        .unwrap();
    let both = runtime.block_on(async { tokio::join!(pool.acquire(), pool.acquire()) });
    assert!(matches!(both, (Ok(_), Ok(_))));
    assert_eq!((fake.count(Call::Reset), fake.count(Call::Connect)), (1, 2));
}

/// F22: when the runtime is gone there is nobody to reset or say goodbye; the slot is free all the same.
#[test]
fn f22_leases_may_be_dropped_after_the_runtime_and_while_unwinding() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (pool, fake, mut leases) = runtime.block_on(async {
        let (pool, fake) = pool(1, 2);
        let leases = join_all((0..3).map(|_| pool.acquire())).await;
        let leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
        (pool, fake, leases)
    });
    drop(runtime);
    leases[0].get_mut();
    let unwound = std::thread::spawn(move || {
        let _leases = leases;
        std::panic::resume_unwind(Box::new("planned"));
    });
    assert!(unwound.join().is_err(), "the planned panic");
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
    assert_eq!(fake.alive(), 1);
    drop(pool);
    assert_eq!(fake.alive(), 0);
}

/// The deadline holds also where the pool's own runtime is not driven.
#[test]
fn an_acquire_on_another_runtime_keeps_its_deadline() {
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let home = build();
    let (pool, _) = home.block_on(async { pool(1, 0) });
    let lease = home.block_on(pool.acquire()).unwrap();
    let abroad = build();
    let waiting = pool.acquire().within(Duration::from_millis(20));
    let outcome = abroad.block_on(waiting);
    assert!(
        matches!(outcome, Err(AcquireError::Exhausted { .. })),
        "{outcome:?}"
    );
    drop(lease);
    abroad.block_on(pool.acquire()).unwrap();
}
