//! Where a pool's tasks run: on a runtime that is there, or on one of its own.

use std::panic::catch_unwind;

use tokio::runtime::{Handle, Runtime};
use tokio::time::{Instant, sleep_until};

/// Makes a future with a timer: on the current runtime, or on the pool's where there is none.
pub(crate) fn with_timers<T>(home: &Handle, make: impl FnOnce() -> T) -> T {
    let elsewhere = Handle::try_current().is_err();
    let _runtime = elsewhere.then(|| home.enter());
    make()
}

/// Returns whether the current runtime has tokio's time. There is no way to ask but to try.
pub(super) fn has_timers() -> bool {
    catch_unwind(|| drop(sleep_until(Instant::now()))).is_ok()
}

/// Where a pool's tasks run.
#[derive(Debug)]
pub(super) enum Home {
    Current(Handle),
    Own(OwnedRuntime),
}

impl Home {
    pub(super) fn split(self) -> (Handle, Option<OwnedRuntime>) {
        match self {
            Self::Current(handle) => (handle, None),
            Self::Own(runtime) => (runtime.handle().clone(), Some(runtime)),
        }
    }
}

/// A runtime that may be dropped anywhere, also by one of its own tasks.
#[derive(Debug)]
pub(super) struct OwnedRuntime {
    /// None only while it is being dropped.
    runtime: Option<Runtime>,
}

impl OwnedRuntime {
    fn handle(&self) -> &Handle {
        let runtime = self.runtime.as_ref();
        runtime
            .expect("bug: a runtime was used after its end")
            .handle()
    }

    pub(super) fn has_timers(&self) -> bool {
        let _current = self.handle().enter();
        has_timers()
    }
}

impl From<Runtime> for OwnedRuntime {
    fn from(runtime: Runtime) -> Self {
        Self {
            runtime: Some(runtime),
        }
    }
}

impl Drop for OwnedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // To wait for its end would panic on a worker of any runtime, this one's included.
            runtime.shutdown_background();
        }
    }
}
