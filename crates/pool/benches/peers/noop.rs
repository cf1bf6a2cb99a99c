//! Connections that do nothing: what is measured is the pool.

use std::convert::Infallible;
use std::time::Instant;

use poolproof_pool::{Config, Lease, Pool};
use tokio::task::JoinSet;

use crate::contender::{Case, Contender, Round, Waits};
use crate::fastest_peer;
use crate::nothing::Noop;

/// How many tasks share how many connections, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) case: &'static str,
    tasks: u32,
    connections: u32,
    hold: Hold,
    /// Of each task, in one round.
    operations: u32,
    floor: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// The task holds its lease while others run.
    Yield,
}

pub(crate) const SHAPES: [Shape; 4] = [
    Shape {
        case: "alone",
        tasks: 1,
        connections: 1,
        hold: Hold::Nothing,
        operations: 200_000,
        floor: 2.0,
    },
    Shape {
        case: "two_on_8",
        tasks: 2,
        connections: 8,
        hold: Hold::Nothing,
        operations: 100_000,
        floor: 1.3,
    },
    Shape {
        case: "64_on_8_yield",
        tasks: 64,
        connections: 8,
        hold: Hold::Yield,
        operations: 1_000,
        floor: 1.2,
    },
    Shape {
        case: "512_on_16_yield",
        tasks: 512,
        connections: 16,
        hold: Hold::Yield,
        operations: 125,
        floor: 1.1,
    },
];

pub(crate) fn case(shape: &Shape) -> Case {
    Case {
        name: shape.case,
        floors: fastest_peer(shape.floor),
    }
}

pub(crate) async fn contenders(shape: Shape) -> Vec<Contender> {
    let config = Config {
        pool_size: shape.connections,
        max_overflow: 0,
        ..Config::default()
    };
    let poolproof = Pool::new(Noop, config).unwrap();
    let deadpool = deadpool::managed::Pool::builder(Noop)
        .max_size(usize::try_from(shape.connections).unwrap())
        .build()
        .unwrap();
    let bb8 = bb8::Pool::builder()
        .max_size(shape.connections)
        .test_on_check_out(false)
        .build(Noop)
        .await
        .unwrap();
    let mobc = mobc::Pool::builder()
        .max_open(u64::from(shape.connections))
        .max_idle(u64::from(shape.connections))
        .test_on_check_out(false)
        .build(Noop);
    vec![
        contender("poolproof", poolproof, shape),
        contender("deadpool", deadpool, shape),
        contender("bb8", bb8, shape),
        contender("mobc", mobc, shape),
    ]
}

fn contender<P: Peer>(name: &'static str, pool: P, shape: Shape) -> Contender {
    Contender::new(name, move |waits| round(pool.clone(), shape, waits))
}

async fn round<P: Peer>(pool: P, shape: Shape, waits: Waits) -> Round {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..shape.tasks {
        let pool = pool.clone();
        tasks.spawn(async move {
            match waits {
                Waits::Ignored => work(&pool, shape).await,
                Waits::Measured => work_and_measure(&pool, shape).await,
            }
        });
    }
    let mut waits = Vec::new();
    while let Some(measured) = tasks.join_next().await {
        waits.append(&mut measured.unwrap());
    }
    Round {
        took: begun.elapsed(),
        operations: u64::from(shape.tasks) * u64::from(shape.operations),
        waits,
    }
}

async fn work<P: Peer>(pool: &P, shape: Shape) -> Vec<u64> {
    for _ in 0..shape.operations {
        let lease = pool.lease().await;
        if shape.hold == Hold::Yield {
            tokio::task::yield_now().await;
        }
        drop(lease);
    }
    Vec::new()
}

async fn work_and_measure<P: Peer>(pool: &P, shape: Shape) -> Vec<u64> {
    let mut waits = Vec::with_capacity(usize::try_from(shape.operations).unwrap());
    for _ in 0..shape.operations {
        let asked = Instant::now();
        let lease = pool.lease().await;
        waits.push(u64::try_from(asked.elapsed().as_nanos()).unwrap());
        if shape.hold == Hold::Yield {
            tokio::task::yield_now().await;
        }
        drop(lease);
    }
    waits
}

/// A pool of connections that do nothing.
trait Peer: Clone + Send + Sync + 'static {
    type Lease<'p>: Send
    where
        Self: 'p;

    fn lease(&self) -> impl Future<Output = Self::Lease<'_>> + Send;
}

impl Peer for Pool<Noop> {
    type Lease<'p> = Lease<Noop>;

    async fn lease(&self) -> Lease<Noop> {
        self.acquire().await.unwrap()
    }
}

impl Peer for deadpool::managed::Pool<Noop> {
    type Lease<'p> = deadpool::managed::Object<Noop>;

    async fn lease(&self) -> Self::Lease<'_> {
        self.get().await.unwrap()
    }
}

impl Peer for bb8::Pool<Noop> {
    type Lease<'p> = bb8::PooledConnection<'p, Noop>;

    async fn lease(&self) -> Self::Lease<'_> {
        self.get().await.unwrap()
    }
}

impl Peer for mobc::Pool<Noop> {
    type Lease<'p> = mobc::Connection<Noop>;

    async fn lease(&self) -> Self::Lease<'_> {
        self.get().await.unwrap()
    }
}

impl deadpool::managed::Manager for Noop {
    type Type = ();
    type Error = Infallible;

    async fn create(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn recycle(
        &self,
        (): &mut (),
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

impl bb8::ManageConnection for Noop {
    type Connection = ();
    type Error = Infallible;

    async fn connect(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn is_valid(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

#[mobc::async_trait]
impl mobc::Manager for Noop {
    type Connection = ();
    type Error = Infallible;

    async fn connect(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn check(&self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }
}
