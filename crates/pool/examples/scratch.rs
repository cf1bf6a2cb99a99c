//! scratch
use poolproof_pool::{Config, Connector, Pool};
use std::convert::Infallible;
use std::time::Instant;
#[derive(Clone, Copy, Debug)]
struct Noop;
impl Connector for Noop {
    type Connection = ();
    type Error = Infallible;
    async fn connect(&self) -> Result<(), Infallible> {
        Ok(())
    }
    async fn ping(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }
    async fn reset(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }
    async fn close(&self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }
    fn is_permanent(&self, error: &Infallible) -> bool {
        match *error {}
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
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let tasks: usize = args[1].parse().unwrap();
    let size: u32 = args[2].parse().unwrap();
    let hold = args[3] == "y";
    let ops: u32 = args[4].parse().unwrap();
    let who = args.get(5).cloned().unwrap_or_default();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(async {
        let config = Config {
            pool_size: size,
            max_overflow: 0,
            ..Config::default()
        };
        let p = Pool::new(Noop, config).unwrap();
        let d: deadpool::managed::Pool<Noop> = deadpool::managed::Pool::builder(Noop)
            .max_size(size as usize)
            .build()
            .unwrap();
        let b = bb8::Pool::builder()
            .max_size(size)
            .test_on_check_out(false)
            .build(Noop)
            .await
            .unwrap();
        macro_rules! go {
            ($name:literal, $pool:expr, $get:ident, $out:expr) => {
                if who.is_empty() || who == $name {
                    let begun = Instant::now();
                    let mut set = tokio::task::JoinSet::new();
                    for _ in 0..tasks {
                        let pool = $pool.clone();
                        set.spawn(async move {
                            for _ in 0..ops {
                                let l = pool.$get().await.unwrap();
                                if hold {
                                    tokio::task::yield_now().await;
                                }
                                drop(l);
                            }
                        });
                    }
                    while set.join_next().await.is_some() {}
                    $out.push(begun.elapsed().as_nanos() as f64 / f64::from(ops) / tasks as f64);
                }
            };
        }
        let mut r = [vec![], vec![], vec![]];
        for _ in 0..15 {
            go!("p", p, acquire, r[0]);
            go!("d", d, get, r[1]);
            go!("b", b, get, r[2]);
        }
        let m: Vec<f64> = r
            .iter_mut()
            .map(|v| {
                v.sort_by(f64::total_cmp);
                v.get(v.len() / 2).copied().unwrap_or(0.0)
            })
            .collect();
        println!(
            "{tasks} on {size}: poolproof {:.0} deadpool {:.0} bb8 {:.0} | vs best {:.2}",
            m[0],
            m[1],
            m[2],
            m[1].min(m[2]) / m[0]
        );
    });
}
