//! What the proxy costs: round trips per second of one and of ten connections, directly, through
//! a plain copy, and through a proxy without and with an idle toxic.
//!
//! `cargo run --release -p poolproof-faults --example round_trips`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement by hand"
)]

use std::time::Duration;

use poolproof_faults::{Proxies, ProxySpec, Stream, Toxic, ToxicSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// About a short statement and a short answer of Postgres.
const MESSAGE: usize = 64;
const DURATION: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut tasks = JoinSet::new();
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let direct = echo.local_addr().unwrap().to_string();
    tasks.spawn(serve(echo, None));
    let copy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let copied = copy.local_addr().unwrap().to_string();
    tasks.spawn(serve(copy, Some(direct.clone())));

    let proxies = Proxies::new(1);
    let plain = proxies
        .create(ProxySpec::local("plain", direct.as_str()))
        .await
        .unwrap();
    let toxic = proxies
        .create(ProxySpec::local("toxic", direct.as_str()))
        .await
        .unwrap();
    for stream in [Stream::Upstream, Stream::Downstream] {
        let noop = ToxicSpec::new(Toxic::Noop, stream);
        proxies.add_toxic("toxic", noop).await.unwrap();
    }
    for clients in [1, 10] {
        for (what, address) in [
            ("direct", &direct),
            ("plain copy", &copied),
            ("proxy", &plain.listen),
            ("proxy with noop toxics", &toxic.listen),
        ] {
            let rate = measure(address, clients).await;
            println!("{clients:>2} connections, {what:<22} {rate}");
        }
    }
    proxies.shutdown().await;
}

/// Echoes, or copies to and from `upstream`.
async fn serve(listener: TcpListener, upstream: Option<String>) {
    let mut links = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let upstream = upstream.clone();
        links.spawn(async move {
            let Some(upstream) = upstream else {
                let mut bytes = [0; MESSAGE];
                while client.read_exact(&mut bytes).await.is_ok() {
                    client.write_all(&bytes).await.unwrap();
                }
                return;
            };
            let mut server = TcpStream::connect(upstream).await.unwrap();
            server.set_nodelay(true).unwrap();
            copy_bidirectional(&mut client, &mut server).await.unwrap();
        });
    }
}

async fn measure(address: &str, clients: usize) -> String {
    let mut tasks = JoinSet::new();
    let (started, cpu_before) = (Instant::now(), cpu_us());
    for _ in 0..clients {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        tasks.spawn(async move {
            let mut bytes = [7; MESSAGE];
            let mut count = 0_u32;
            while started.elapsed() < DURATION {
                stream.write_all(&bytes).await.unwrap();
                stream.read_exact(&mut bytes).await.unwrap();
                count += 1;
            }
            count
        });
    }
    let total: u32 = tasks.join_all().await.into_iter().sum();
    let rate = f64::from(total) / started.elapsed().as_secs_f64();
    let cpu = (cpu_us() - cpu_before) / f64::from(total);
    format!("{rate:>8.0} round trips/s, {cpu:>5.1} µs of CPU each")
}

/// CPU time of this process, client and server included, in microseconds. On a busy machine it
/// tells more than the rate. Linux only; elsewhere 0.
fn cpu_us() -> f64 {
    const TICK_US: f64 = 10_000.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split(' ');
    let ticks = fields
        .skip(12)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() * TICK_US
}
