//! Where blocking is allowed, and how a thread waits for a future.

use std::cell::Cell;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Id};

use super::BlockingError;

thread_local! {
    /// The runtime that this module has made current on this thread, which may block nevertheless.
    static BRIDGED: Cell<Option<Id>> = const { Cell::new(None) };
}

/// Marks this thread as one that may block, until it is dropped.
struct Bridge {
    outer: Option<Id>,
}

impl Bridge {
    fn to(runtime: &Handle) -> Self {
        Self {
            outer: BRIDGED.replace(Some(runtime.id())),
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        BRIDGED.set(self.outer);
    }
}

/// Refuses where a runtime is current that this module has not entered itself.
pub(super) fn permit<E: Error + 'static>() -> Result<(), BlockingError<E>> {
    match Handle::try_current() {
        Ok(current) if BRIDGED.get() != Some(current.id()) => Err(BlockingError::InRuntime),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Runs `work` on a thread where `runtime` is current and that may block.
pub(super) fn permitted<T>(runtime: &Handle, work: impl FnOnce() -> T) -> T {
    let _bridge = Bridge::to(runtime);
    work()
}

/// Polls a future to its end on this thread, with `runtime` current during each poll.
pub(super) fn drive<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let park = || {
        thread::park();
        Some(())
    };
    poll_to_end(runtime, future, park).expect("bug: gave up without a deadline")
}

/// Like [`drive`], for `patience` at most by the system's clock; polls once at least.
pub(super) fn drive_within<F: Future>(
    runtime: &Handle,
    patience: Duration,
    future: F,
) -> Option<F::Output> {
    let Some(deadline) = real_now().checked_add(patience) else {
        return Some(drive(runtime, future));
    };
    poll_to_end(runtime, future, || {
        let left = deadline.checked_duration_since(real_now())?;
        thread::park_timeout(left);
        Some(())
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a parked thread wakes by the system's clock, and tokio's may stand still"
)]
pub(super) fn real_now() -> Instant {
    Instant::now()
}

/// `park` blocks until the thread is unparked, or for no reason at all; none gives up.
fn poll_to_end<F: Future>(
    runtime: &Handle,
    future: F,
    park: impl Fn() -> Option<()>,
) -> Option<F::Output> {
    let parker = Arc::new(Parker {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    let _bridge = Bridge::to(runtime);
    let mut future = pin!(future);
    loop {
        {
            let _current = runtime.enter();
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
        }
        while !parker.woken.swap(false, Ordering::Acquire) {
            park()?;
        }
    }
}

struct Parker {
    thread: Thread,
    /// Kept beside the thread's own token, which a nested wait on the same thread may take.
    woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
