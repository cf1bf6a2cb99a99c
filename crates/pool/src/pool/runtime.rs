//! Where a pool's tasks run: on a runtime that is there, or on one of its own.

use tokio::runtime::{Handle, Runtime};

/// Where a pool's tasks run.
#[derive(Debug)]
pub(crate) enum Home {
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
pub(crate) struct OwnedRuntime {
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
