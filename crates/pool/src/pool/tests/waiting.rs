//! What waiting costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use super::*;

#[derive(Default)]
struct Woken {
    times: AtomicUsize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, Ordering::SeqCst);
    }
}

/// F14: waiting is free of spinning. A waiter is woken when its connection is there, once, and never
/// before, however many come and go around it.
#[tokio::test(start_paused = true)]
async fn f14_a_waiter_is_woken_once_and_only_for_its_own_connection() {
    let (pool, _) = pool(1, 0);
    let held = pool.acquire().await.unwrap();
    let woken: Vec<Arc<Woken>> = (0..50).map(|_| Arc::default()).collect();
    let mut waiters: Vec<_> = woken.iter().map(|_| pool.acquire()).collect();
    let poll = |waiter: &mut Acquire<Fake>, woken: &Arc<Woken>| {
        let waker = Waker::from(Arc::clone(woken));
        waiter.poll_unpin(&mut Context::from_waker(&waker))
    };
    for (waiter, woken) in waiters.iter_mut().zip(&woken) {
        assert!(poll(waiter, woken).is_pending());
    }
    for _ in 0..100 {
        let mut passer_by = pool.acquire();
        assert!(poll_once(&mut passer_by).is_pending());
    }
    settle().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    let times = |woken: &Arc<Woken>| woken.times.load(Ordering::SeqCst);
    assert_eq!(
        woken.iter().map(times).sum::<usize>(),
        0,
        "woken for nothing"
    );

    drop(held);
    for (turn, (mut waiter, its)) in waiters.into_iter().zip(&woken).enumerate() {
        let so_far: usize = woken.iter().map(times).sum();
        assert_eq!(
            (times(its), so_far),
            (1, turn + 1),
            "one wake for each hand-over"
        );
        let Poll::Ready(Ok(lease)) = poll(&mut waiter, its) else {
            panic!("woken for nothing")
        };
        drop(lease);
    }
}
