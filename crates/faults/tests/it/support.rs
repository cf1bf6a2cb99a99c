//! A proxy with a server behind it and clients in front, and ways to wait for a condition.

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use poolproof_faults::{Proxies, ProxySpec, ProxyStats, Stream, Toxic, ToxicSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// How long a condition may take. Generous: the machine may be busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than any test runs, in milliseconds: what waits for it has been held back.
pub(crate) const FOREVER_MS: u32 = 3_600_000;

/// The name of the bench's proxy.
pub(crate) const PG: &str = "pg";

/// One proxy in front of one listener that the test accepts from.
pub(crate) struct Bench {
    pub(crate) proxies: Proxies,
    pub(crate) listen: String,
    pub(crate) server: TcpListener,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with_seed(1).await
    }

    pub(crate) async fn with_seed(seed: u64) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = server.local_addr().unwrap().to_string();
        let proxies = Proxies::new(seed);
        let view = proxies
            .create(ProxySpec::local(PG, upstream))
            .await
            .unwrap();
        Self {
            proxies,
            listen: view.listen,
            server,
        }
    }

    /// Opens a link and returns its client's and its server's end.
    pub(crate) async fn link(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(&self.listen).await.unwrap();
        let (server, _) = within(self.server.accept()).await.unwrap();
        (client, server)
    }

    pub(crate) async fn add(&self, toxic: Toxic, stream: Stream) {
        let spec = ToxicSpec::new(toxic, stream).named("t");
        self.proxies.add_toxic(PG, spec).await.unwrap();
    }

    /// Removes what [`Bench::add`] added.
    pub(crate) async fn remove(&self) {
        self.proxies.remove_toxic(PG, "t").await.unwrap();
    }

    pub(crate) fn stats(&self) -> ProxyStats {
        self.proxies.stats(PG).unwrap()
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&ProxyStats) -> bool) {
        until(what, || is_so(&self.stats()).then_some(())).await;
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future)
        .await
        .expect("nothing happened for 30 s")
}

/// Polls until there is an answer. For conditions that nothing signals.
pub(crate) async fn until<T>(what: &str, answer: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited 30 s for: {what}");
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(1)).await;
    }
}

pub(crate) async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    within(stream.write_all(bytes)).await.unwrap();
}

pub(crate) async fn receive(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// Sends one way, then the other, and checks both.
pub(crate) async fn ping_pong((client, server): (&mut TcpStream, &mut TcpStream)) {
    send(client, b"ping").await;
    assert_eq!(receive(server, 4).await, b"ping");
    send(server, b"pong").await;
    assert_eq!(receive(client, 4).await, b"pong");
}

/// What comes of a connection that should have ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
}

/// Waits for the end of a connection that has nothing left to receive.
pub(crate) async fn end_of(stream: &mut TcpStream) -> End {
    let mut bytes = [0; 1];
    match within(stream.read(&mut bytes)).await {
        Ok(0) => End::Eof,
        Ok(_) => panic!("a byte came instead of the end"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => panic!("neither EOF nor reset: {error}"),
    }
}

/// Checks that nothing has come, end included.
pub(crate) fn assert_silent(stream: &TcpStream) {
    let mut bytes = [0; 1];
    let read = stream.try_read(&mut bytes);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock);
}
