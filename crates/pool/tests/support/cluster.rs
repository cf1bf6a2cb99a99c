//! One server for all tests of a binary that run at the same time.

use std::sync::{Arc, Mutex, Weak};

use poolproof_testbed::{Cluster, LocalConfig};

/// Shared by the tests that run at the same time; the last one to end stops it.
static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

pub(crate) async fn cluster() -> Arc<Cluster> {
    let shared = || {
        let mut cluster = CLUSTER.lock().unwrap_or_else(|broken| broken.into_inner());
        cluster.upgrade().unwrap_or_else(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let started = runtime.block_on(Cluster::start(LocalConfig::default()));
            let started = Arc::new(started.unwrap());
            *cluster = Arc::downgrade(&started);
            started
        })
    };
    tokio::task::spawn_blocking(shared).await.unwrap()
}
