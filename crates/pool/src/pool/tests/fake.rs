//! A connector whose every call waits for the test to decide how it ends. The tests of `poolproof-ops` use
//! it too, so that it names the crate as they do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

use poolproof_pool::{Connector, HookFuture, Hooks};

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Ok,
    /// Success after [`SLOW`].
    Slow,
    Error,
    /// An error of which trying again cannot help.
    Permanent,
    Panic,
    /// Not before [`Fake::release`], and then with success.
    Held,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Connect,
    Ping,
    Reset,
    Close,
    /// The hooks, of [`Fake::hooks`].
    OnConnect,
    OnAcquire,
    OnRelease,
    OnInvalidate,
    OnClose,
}

/// Shorter than all bounds.
pub(super) const SLOW: Duration = Duration::from_millis(100);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("{call:?} fails as planned")]
pub(super) struct FakeError {
    pub(super) call: Call,
    pub(super) permanent: bool,
}

/// A connection that counts how many of its kind exist.
#[derive(Debug)]
pub(super) struct FakeConn {
    pub(super) id: usize,
    alive: Arc<AtomicUsize>,
}

impl Drop for FakeConn {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
struct Plan {
    /// What comes next, per call; then what comes always.
    next: Vec<(Call, VecDeque<Gate>)>,
    always: Vec<(Call, Gate)>,
}

#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Plan>,
    calls: Mutex<Vec<(Call, Instant)>>,
    opened: AtomicUsize,
    alive: Arc<AtomicUsize>,
    peak: AtomicUsize,
    released: Notify,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Fake {
    shared: Arc<Shared>,
}

impl Fake {
    /// Decides how all calls of a kind end that nothing else was decided for. Without: well.
    pub(super) fn always(&self, call: Call, gate: Gate) {
        let mut plan = self.shared.plan.lock().unwrap();
        plan.always.retain(|(planned, _)| *planned != call);
        plan.always.push((call, gate));
    }

    /// Decides how the next calls of a kind end.
    pub(super) fn next(&self, call: Call, gates: impl IntoIterator<Item = Gate>) {
        let mut plan = self.shared.plan.lock().unwrap();
        plan.next.retain(|(planned, _)| *planned != call);
        plan.next.push((call, gates.into_iter().collect()));
    }

    /// Lets one call go on that is held.
    pub(super) fn release(&self) {
        self.shared.released.notify_one();
    }

    pub(super) fn count(&self, call: Call) -> usize {
        self.times(call).len()
    }

    /// When the calls of a kind were made.
    pub(super) fn times(&self, call: Call) -> Vec<Instant> {
        let calls = self.shared.calls.lock().unwrap();
        let made = calls.iter().filter(|(made, _)| *made == call);
        made.map(|(_, at)| *at).collect()
    }

    /// The calls of these kinds, in the order in which they were made.
    pub(super) fn made(&self, kinds: &[Call]) -> Vec<Call> {
        let calls = self.shared.calls.lock().unwrap();
        let made = calls.iter().map(|(call, _)| *call);
        made.filter(|call| kinds.contains(call)).collect()
    }

    /// Hooks that the test decides about like about the calls.
    pub(super) fn hooks(&self, kinds: &[Call]) -> Hooks<FakeConn> {
        let mut hooks = Hooks::new();
        for call in kinds {
            hooks = match call {
                Call::OnConnect => hooks.on_connect(self.hook(*call)),
                Call::OnAcquire => hooks.on_acquire(self.hook(*call)),
                Call::OnRelease => hooks.on_release(self.hook(*call)),
                Call::OnInvalidate => hooks.on_invalidate(self.hook(*call)),
                Call::OnClose => hooks.on_close(self.hook(*call)),
                other => panic!("{other:?} is no hook"),
            };
        }
        hooks
    }

    /// How many connections exist.
    pub(super) fn alive(&self) -> usize {
        self.shared.alive.load(Ordering::SeqCst)
    }

    /// How many connections existed at most.
    pub(super) fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    fn hook(
        &self,
        call: Call,
    ) -> impl for<'a> Fn(&'a mut FakeConn) -> HookFuture<'a> + Send + Sync + 'static {
        let fake = self.clone();
        move |_| {
            let fake = fake.clone();
            Box::pin(async move { Ok(fake.pass(call).await?) })
        }
    }

    async fn pass(&self, call: Call) -> Result<(), FakeError> {
        let made = (call, Instant::now());
        self.shared.calls.lock().unwrap().push(made);
        let gate = {
            let mut plan = self.shared.plan.lock().unwrap();
            let next = plan
                .next
                .iter_mut()
                .find(|(planned, _)| *planned == call)
                .and_then(|(_, gates)| gates.pop_front());
            let always = plan.always.iter().find(|(planned, _)| *planned == call);
            next.or(always.map(|(_, gate)| *gate)).unwrap_or(Gate::Ok)
        };
        // A real call takes at least one turn.
        tokio::task::yield_now().await;
        match gate {
            Gate::Ok => Ok(()),
            Gate::Slow => {
                tokio::time::sleep_until(Instant::now() + SLOW).await;
                Ok(())
            }
            Gate::Error | Gate::Permanent => Err(FakeError {
                call,
                permanent: gate == Gate::Permanent,
            }),
            Gate::Panic => std::panic::resume_unwind(Box::new("planned")),
            Gate::Held => {
                self.shared.released.notified().await;
                Ok(())
            }
            Gate::Never => std::future::pending().await,
        }
    }
}

impl Connector for Fake {
    type Connection = FakeConn;
    type Error = FakeError;

    async fn connect(&self) -> Result<FakeConn, FakeError> {
        self.pass(Call::Connect).await?;
        let alive = self.shared.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.peak.fetch_max(alive, Ordering::SeqCst);
        Ok(FakeConn {
            id: self.shared.opened.fetch_add(1, Ordering::SeqCst),
            alive: Arc::clone(&self.shared.alive),
        })
    }

    async fn ping(&self, _: &mut FakeConn) -> Result<(), FakeError> {
        self.pass(Call::Ping).await
    }

    async fn reset(&self, _: &mut FakeConn) -> Result<(), FakeError> {
        self.pass(Call::Reset).await
    }

    async fn close(&self, connection: FakeConn) -> Result<(), FakeError> {
        let result = self.pass(Call::Close).await;
        drop(connection);
        result
    }

    fn is_permanent(&self, error: &FakeError) -> bool {
        error.permanent
    }
}
