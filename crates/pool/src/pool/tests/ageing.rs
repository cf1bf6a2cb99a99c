//! What becomes of connections with time: replaced, reaped, kept ready, lingering, warmed up.

use super::*;
use crate::config::IdleOrder;
use crate::error::ConnectError;

const SECOND: Duration = Duration::from_secs(1);

async fn pass(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
    settle().await;
}

/// Lends `count` connections at the same time and takes them back.
async fn use_at_once(pool: &Pool<Fake>, count: usize) {
    let leases = join_all((0..count).map(|_| pool.acquire())).await;
    assert_eq!(leases.into_iter().filter_map(Result::ok).count(), count);
    settle().await;
}

/// Rule 27: too old at checkout means replaced at checkout, exactly at its time.
#[tokio::test(start_paused = true)]
async fn rule_27_a_connection_that_is_too_old_is_never_lent() {
    let (pool, fake) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pool_recycle: Some(1000 * SECOND),
        ..Config::default()
    });
    drop(pool.acquire().await.unwrap());
    tokio::time::advance(899 * SECOND).await;
    assert_eq!(pool.acquire().await.unwrap().get().id, 0);
    // Past its end, and the housekeeper has not had a turn.
    tokio::time::advance(101 * SECOND).await;
    assert_eq!(pool.acquire().await.unwrap().get().id, 1);
    settle().await;
    assert_eq!((fake.alive(), fake.count(Call::Close)), (1, 1));
    assert_eq!(pool.snapshot().closed_by.recycled, 1);
}

/// Rule 27: a connection that is lent out is never taken away.
#[tokio::test(start_paused = true)]
async fn rule_27_a_connection_that_is_out_is_replaced_when_it_comes_back() {
    let (pool, fake) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pool_recycle: Some(100 * SECOND),
        ..Config::default()
    });
    let lease = pool.acquire().await.unwrap();
    pass(500 * SECOND).await;
    assert_eq!((fake.alive(), fake.count(Call::Connect)), (1, 1));
    drop(lease);
    settle().await;
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0), "and replaced at once");
    assert_eq!(pool.acquire().await.unwrap().get().id, 1);
}

/// F16: the replacement is there before the old one goes, where the limit has room for both.
#[tokio::test(start_paused = true)]
async fn f16_the_replacement_is_opened_before_the_old_connection_goes() {
    for (overflow, first) in [(1, Call::Connect), (0, Call::Close)] {
        let (pool, fake) = configured(Config {
            pool_size: 2,
            max_overflow: overflow,
            pool_recycle: Some(100 * SECOND),
            ..Config::default()
        });
        use_at_once(&pool, 2).await;
        pass(85 * SECOND).await;
        let made = fake.made(&[Call::Connect, Call::Close]);
        assert_eq!(made.len(), 4, "one went, {overflow}: {made:?}");
        assert_eq!(made[2], first, "{overflow}: {made:?}");
        assert_eq!(numbers(&pool), (0, 2, 0, 0, 0));
    }
}

/// An old connection stays until its end when its replacement cannot be opened.
#[tokio::test(start_paused = true)]
async fn an_outage_does_not_take_connections_before_their_end() {
    let (pool, fake) = configured(Config {
        pool_size: 2,
        max_overflow: 1,
        pool_recycle: Some(100 * SECOND),
        ..Config::default()
    });
    use_at_once(&pool, 2).await;
    fake.always(Call::Connect, Gate::Error);
    pass(85 * SECOND).await;
    assert_eq!(pool.snapshot().idle, 2, "the first was due at about 60 s");
    assert!(pool.outage().is_some());
    fake.always(Call::Connect, Gate::Ok);
    pass(30 * SECOND).await;
    assert_eq!(numbers(&pool), (0, 2, 0, 0, 0));
    assert_eq!(pool.snapshot().closed_by.recycled, 2);
}

/// F16. A larger pool must be looked at more often, also where it was small before.
#[tokio::test(start_paused = true)]
async fn f16_connections_that_were_born_together_do_not_die_together() {
    dies_bit_by_bit(20, 2000 * SECOND).await;
    dies_bit_by_bit(1, 200 * SECOND).await;
}

/// Method: twenty connections that were born together, idle for two lives; in no window of a twentieth of a
/// life may there be more than three times the mean of closes.
async fn dies_bit_by_bit(built_with: u32, life: Duration) {
    let (pool, fake) = configured(Config {
        pool_size: built_with,
        max_overflow: 1,
        pool_recycle: Some(life),
        ..Config::default()
    });
    pool.resize(20, 1).unwrap();
    use_at_once(&pool, 20).await;
    let born = Instant::now();
    pass(2 * life).await;
    let closes = fake.times(Call::Close);
    assert!((34..=48).contains(&closes.len()), "{} closes", closes.len());
    let mean = f64::from(u32::try_from(closes.len()).unwrap()) / 40.0;
    let window = life / 20;
    for (index, first) in closes.iter().enumerate() {
        let within = closes[index..]
            .iter()
            .take_while(|at| **at - *first < window);
        let within = u32::try_from(within.count()).unwrap();
        assert!(
            f64::from(within) <= 3.0 * mean,
            "{within} closes from {:?} on, {mean} on average",
            *first - born
        );
    }
    assert_eq!(numbers(&pool), (0, 20, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_for_long_goes_as_long_as_the_minimum_remains() {
    let (pool, fake) = configured(Config {
        pool_size: 4,
        min_idle: 1,
        idle_timeout: Some(60 * SECOND),
        ..Config::default()
    });
    use_at_once(&pool, 4).await;
    pass(59 * SECOND).await;
    drop(pool.acquire().await.unwrap());
    assert_eq!(fake.alive(), 4);
    pass(17 * SECOND).await;
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0), "the one that was used");
    pass(600 * SECOND).await;
    assert_eq!((fake.alive(), fake.count(Call::Connect)), (1, 4));
    assert_eq!(pool.snapshot().closed_by.idle, 3);
}

#[tokio::test(start_paused = true)]
async fn the_minimum_is_kept_ready_within_pool_size() {
    let (pool, fake) = configured(Config {
        pool_size: 3,
        max_overflow: 5,
        min_idle: 2,
        ..Config::default()
    });
    settle().await;
    assert_eq!(numbers(&pool), (0, 2, 0, 0, 0), "before anyone asks");
    let first = pool.acquire().await.unwrap();
    settle().await;
    assert_eq!(numbers(&pool), (1, 2, 0, 0, 0));
    let second = pool.acquire().await.unwrap();
    settle().await;
    assert_eq!(numbers(&pool), (2, 1, 0, 0, 0), "three in all are enough");
    first.discard();
    settle().await;
    assert_eq!(numbers(&pool), (1, 2, 0, 0, 0), "made up for what broke");
    drop(second);
    assert_eq!(fake.count(Call::Connect), 4);
}

/// F25, rule 21: a steady load above `pool_size` opens connections once and not for each use.
#[tokio::test(start_paused = true)]
async fn f25_lingering_overflow_is_not_opened_again_under_a_steady_load() {
    for (linger, connects) in [(10 * SECOND, 4), (Duration::ZERO, 2 + 2 * 100)] {
        let (pool, fake) = configured(Config {
            pool_size: 2,
            max_overflow: 2,
            overflow_linger: linger,
            ..Config::default()
        });
        for _ in 0..100 {
            use_at_once(&pool, 4).await;
            assert!(pool.snapshot().idle <= 4);
            pass(SECOND).await;
        }
        assert_eq!(fake.count(Call::Connect), connects, "{linger:?}");
        pass(15 * SECOND).await;
        assert_eq!(numbers(&pool), (0, 2, 0, 0, 0), "{linger:?}");
        let closed_by = pool.snapshot().closed_by;
        assert_eq!(closed_by.overflow, fake.count(Call::Close) as u64);
    }
}

/// Rule 7.
#[tokio::test(start_paused = true)]
async fn rule_7_idle_connections_are_lent_in_the_configured_order() {
    for (order, ids) in [(IdleOrder::Fifo, [0, 1, 2]), (IdleOrder::Lifo, [2, 2, 2])] {
        let (pool, _) = configured(Config {
            pool_size: 3,
            idle_order: order,
            ..Config::default()
        });
        let mut leases = Vec::new();
        for _ in 0..3 {
            leases.push(pool.acquire().await.unwrap());
        }
        for lease in leases {
            drop(lease);
        }
        let mut lent = Vec::new();
        for _ in 0..3 {
            lent.push(pool.acquire().await.unwrap().get().id);
        }
        assert_eq!(lent, ids, "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn warming_up_waits_for_the_connections_and_says_how_many_there_are() {
    let (pool, fake) = pool(5, 10);
    let warm = pool.warm_up(3).await;
    assert_eq!((warm.ready, fake.count(Call::Connect)), (3, 3));
    assert!(warm.failure.is_none());
    assert_eq!(pool.warm_up(2).await.ready, 3, "enough already");
    let _lease = pool.acquire().await.unwrap();
    assert_eq!(pool.warm_up(99).await.ready, 5, "no more than pool_size");
    assert_eq!((numbers(&pool), fake.peak()), ((1, 4, 0, 0, 0), 5));
}

/// The pool builds while the database is down, says so, and is ready when it appears.
#[tokio::test(start_paused = true)]
async fn f18_a_pool_can_be_built_before_its_database_and_recovers_by_itself() {
    for gate in [Gate::Error, Gate::Permanent] {
        let fake = Fake::default();
        fake.always(Call::Connect, gate);
        let pool = Pool::new(fake.clone(), Config::default()).unwrap();
        assert!(pool.outage().is_none(), "nothing was tried");
        let began = Instant::now();
        let warm = pool.warm_up(4).await;
        assert_eq!((warm.ready, began.elapsed()), (0, Duration::ZERO));
        let Some(ConnectError::Failed(cause)) = warm.failure else {
            panic!("{warm:?}")
        };
        assert_eq!(cause.permanent, gate == Gate::Permanent);
        pass(60 * SECOND).await;
        let outage = pool.outage().unwrap();
        assert_eq!(outage.since, 60 * SECOND, "{gate:?}");
        assert_eq!(pool.snapshot().outage, Some(60 * SECOND));
        let tried = fake.count(Call::Connect);
        assert!(
            (10..70).contains(&tried),
            "{gate:?}: {tried} attempts in a minute"
        );
        fake.always(Call::Connect, Gate::Ok);
        pass(6 * SECOND).await;
        assert_eq!(numbers(&pool), (0, 4, 0, 0, 0), "{gate:?}");
        assert!(pool.outage().is_none());
    }
}

/// A permanent error that nobody waits for must not make the pool spin.
#[tokio::test(start_paused = true)]
async fn a_minimum_that_the_server_refuses_is_tried_again_with_pauses() {
    let fake = Fake::default();
    fake.always(Call::Connect, Gate::Permanent);
    let config = Config {
        min_idle: 1,
        ..Config::default()
    };
    let pool = Pool::new(fake.clone(), config).unwrap();
    pass(60 * SECOND).await;
    let tried = fake.count(Call::Connect);
    assert!(tried < 70, "{tried} attempts in a minute");
    let error = pool.acquire().await.unwrap_err();
    assert!(
        matches!(
            error,
            AcquireError::Rejected { .. } | AcquireError::Down { .. }
        ),
        "{error:?}"
    );
}

/// A housekeeper must not keep a pool alive that nobody has any more.
#[tokio::test(start_paused = true)]
async fn a_dropped_pool_takes_its_housekeeper_along() {
    let (pool, fake) = configured(Config {
        pool_recycle: Some(100 * SECOND),
        leak_threshold: Some(SECOND),
        min_idle: 2,
        ..Config::default()
    });
    settle().await;
    assert_eq!(fake.alive(), 2);
    let weak = Arc::downgrade(&pool.inner);
    drop(pool);
    pass(SECOND).await;
    assert_eq!((fake.alive(), weak.strong_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_life_as_long_as_can_be_is_no_reason_to_panic() {
    let (pool, _) = configured(Config {
        pool_recycle: Some(Duration::MAX),
        leak_threshold: Some(Duration::from_secs(5)),
        ..Config::default()
    });
    let held = pool.acquire().await.unwrap();
    tokio::time::advance(Duration::from_secs(100)).await;
    settle().await;
    tokio::time::advance(Duration::from_secs(100)).await;
    settle().await;
    assert_eq!(pool.snapshot().suspected, 1, "the housekeeper is at work");
    drop(held);
}

/// What is due waits for its replacement, and nothing is replaced while nothing is lent.
#[tokio::test(start_paused = true)]
async fn a_pause_while_a_replacement_is_being_opened_keeps_the_books() {
    let (pool, fake) = configured(Config {
        pool_recycle: Some(Duration::from_secs(100)),
        ..Config::default()
    });
    let leases = join_all((0..5).map(|_| pool.acquire())).await;
    drop(leases);
    fake.always(Call::Connect, Gate::Slow);
    while pool.snapshot().opening == 0 {
        tokio::time::advance(Duration::from_millis(50)).await;
        settle().await;
    }
    pool.pause(Duration::ZERO).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    settle().await;
    let counts = pool.snapshot();
    assert!(counts.idle <= 5, "{counts:?}");
    pool.resume();
    fake.always(Call::Connect, Gate::Ok);
    drop(pool.acquire().await.unwrap());
}
