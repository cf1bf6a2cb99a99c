//! The matrix of outcomes, whole: connect, ping and reset each succeed, fail, are slow or never end; the
//! acquire and the release hook also panic; the caller waits for its lease or drops the acquire. After
//! each of the cells the pool must be as good as new.

use super::fake::{FakeConn, SLOW};
use super::*;
use crate::hooks::HookError;

const CALLS: [Gate; 4] = [Gate::Ok, Gate::Error, Gate::Slow, Gate::Never];

const HOOKS: [Gate; 5] = [Gate::Ok, Gate::Error, Gate::Slow, Gate::Never, Gate::Panic];

const BOUND: Duration = Duration::from_secs(1);

/// More than ping, connect, its pause, another connect and the hooks take together.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patient {
    Waits,
    Drops,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    connect: Gate,
    ping: Gate,
    reset: Gate,
    acquire: Gate,
    release: Gate,
    caller: Patient,
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for connect in CALLS {
        for ping in CALLS {
            for reset in CALLS {
                for acquire in HOOKS {
                    for release in HOOKS {
                        for caller in [Patient::Waits, Patient::Drops] {
                            cells.push(Cell {
                                connect,
                                ping,
                                reset,
                                acquire,
                                release,
                                caller,
                            });
                        }
                    }
                }
            }
        }
    }
    cells
}

/// A pool of one connection, which is idle and will be pinged.
async fn prepared() -> (Pool<Fake>, Fake) {
    let fake = Fake::default();
    let config = Config {
        pool_size: 1,
        max_overflow: 0,
        pool_timeout: PATIENCE,
        connect_timeout: BOUND,
        pre_ping: true,
        ping_timeout: BOUND,
        reset_timeout: BOUND,
        close_timeout: BOUND,
        ..Config::default()
    };
    let hooks = fake.hooks(&[Call::OnAcquire, Call::OnRelease]);
    let pool = Pool::with_hooks(fake.clone(), config, hooks).unwrap();
    drop(pool.acquire().await.unwrap());
    settle().await;
    tokio::time::advance(BOUND).await;
    (pool, fake)
}

async fn check(cell: Cell) {
    let (pool, fake) = prepared().await;
    fake.next(Call::Connect, [cell.connect]);
    fake.next(Call::Ping, [cell.ping]);
    fake.next(Call::Reset, [cell.reset]);
    fake.next(Call::OnAcquire, [cell.acquire]);
    fake.next(Call::OnRelease, [cell.release]);
    let began = Instant::now();
    let acquire = pool.acquire();
    let outcome = match cell.caller {
        Patient::Waits => Some(acquire.await),
        // In the middle of what is slow, and of what never ends.
        Patient::Drops => tokio::time::timeout(SLOW / 2, acquire).await.ok(),
    };
    let took = began.elapsed();
    assert!(
        took <= PATIENCE + Duration::from_millis(2),
        "{cell:?}: {took:?}"
    );
    check_outcome(cell, outcome.as_ref());
    if let Some(Ok(mut lease)) = outcome {
        lease.get_mut();
        drop(lease);
    }
    tokio::time::sleep_until(Instant::now() + PATIENCE).await;
    settle().await;
    check_as_new(cell, &pool, &fake).await;
}

/// Everything that goes wrong goes wrong once, so that whoever waits is served; only a hook that never
/// ends takes the whole budget.
fn check_outcome(cell: Cell, outcome: Option<&Result<Lease<Fake>, Refusal>>) {
    match outcome {
        Some(Ok(lease)) => {
            let replaced = matches!(cell.ping, Gate::Error | Gate::Never)
                || matches!(cell.acquire, Gate::Error | Gate::Panic);
            let FakeConn { id, .. } = lease.get();
            assert_eq!(*id > 0, replaced, "{cell:?}");
        }
        Some(Err(AcquireError::Hook { cause })) => {
            assert_eq!(cell.acquire, Gate::Never, "{cell:?}");
            assert!(matches!(cause, HookError::TimedOut { .. }), "{cell:?}");
        }
        Some(Err(other)) => panic!("{cell:?}: {other:?}"),
        None => assert_eq!(cell.caller, Patient::Drops, "{cell:?}"),
    }
    let expects_hook_error = cell.acquire == Gate::Never && cell.caller == Patient::Waits;
    let hook_error = matches!(outcome, Some(Err(_)));
    assert_eq!(hook_error, expects_hook_error, "{cell:?}");
}

async fn check_as_new(cell: Cell, pool: &Pool<Fake>, fake: &Fake) {
    let (out, idle, opening, closing, waiting) = numbers(pool);
    assert_eq!((out, opening, closing, waiting), (0, 0, 0, 0), "{cell:?}");
    assert_eq!((fake.alive(), fake.peak()), (idle, 1), "{cell:?}");
    for call in [
        Call::Connect,
        Call::Ping,
        Call::Reset,
        Call::OnAcquire,
        Call::OnRelease,
    ] {
        fake.next(call, []);
    }
    let mut lease = pool.acquire().await.unwrap();
    lease.get_mut();
    drop(lease);
    drop(pool.acquire().await.unwrap());
    settle().await;
    assert_eq!(numbers(pool), (0, 1, 0, 0, 0), "{cell:?}");
    let snapshot = pool.snapshot();
    assert_eq!(snapshot.leases_issued, snapshot.leases_returned, "{cell:?}");
    assert_eq!(snapshot.opened_total - snapshot.closed_total, 1, "{cell:?}");
}

#[test]
fn every_outcome_of_every_call_and_hook_leaves_the_pool_as_good_as_new() {
    let cells = cells();
    assert_eq!(cells.len(), 4 * 4 * 4 * 5 * 5 * 2);
    for cell in cells {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(check(cell));
    }
}
