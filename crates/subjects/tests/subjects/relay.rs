//! A relay in front of the server that can lose the answer to a COMMIT, withhold the answer to a
//! BEGIN, or lose the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::world::pause;

const PASS: u8 = 0;
const LOSE_ANSWER: u8 = 1;
const REFUSE: u8 = 2;
const WITHHOLD_ANSWER: u8 = 3;

/// Relays until it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    port: u16,
    mode: Arc<AtomicU8>,
    asked: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(server_port: u16) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(PASS));
        let asked = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let links = (Arc::clone(&mode), Arc::clone(&asked));
        tasks.spawn(accept(listener, server_port, links.0, links.1));
        Self {
            port,
            mode,
            asked,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How often the server was asked who serves a connection; the clean probe asks that too.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Lets the next COMMIT reach the server, waits until it was answered, and breaks the link
    /// instead of passing the answer on.
    pub(crate) fn lose_next_commit_answer(&self) {
        self.mode.store(LOSE_ANSWER, Ordering::SeqCst);
    }

    /// Whether an answer was lost since it was asked for.
    pub(crate) fn has_lost_it(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == PASS
    }

    /// Lets the next BEGIN reach the server and keeps its answer back until [`Self::heal`].
    pub(crate) fn withhold_next_begin_answer(&self) {
        self.mode.store(WITHHOLD_ANSWER, Ordering::SeqCst);
    }

    /// Breaks every link at its next message and every new one at once.
    pub(crate) fn refuse(&self) {
        self.mode.store(REFUSE, Ordering::SeqCst);
    }

    /// Relays again.
    pub(crate) fn heal(&self) {
        self.mode.store(PASS, Ordering::SeqCst);
    }
}

async fn accept(
    listener: TcpListener,
    server_port: u16,
    mode: Arc<AtomicU8>,
    asked: Arc<AtomicU64>,
) {
    let mut links = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        if mode.load(Ordering::SeqCst) != REFUSE {
            let server = TcpStream::connect(("127.0.0.1", server_port))
                .await
                .unwrap();
            links.spawn(link(client, server, Arc::clone(&mode), Arc::clone(&asked)));
        }
        while links.try_join_next().is_some() {}
    }
}

/// Ends with both sockets closed, by whatever reason.
async fn link(
    mut client: TcpStream,
    mut server: TcpStream,
    mode: Arc<AtomicU8>,
    asked: Arc<AtomicU64>,
) {
    let (mut up, mut down) = ([0; 8192], [0; 8192]);
    loop {
        tokio::select! {
            Ok(n) = client.read(&mut up) => {
                if n == 0 || mode.load(Ordering::SeqCst) == REFUSE || server.write_all(&up[..n]).await.is_err() {
                    return;
                }
                if contains(&up[..n], b"pg_backend_pid") {
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                match mode.load(Ordering::SeqCst) {
                    LOSE_ANSWER if contains(&up[..n], b"COMMIT") => {
                        let answer = server.read(&mut down).await.unwrap();
                        assert!(answer > 0, "the server answers COMMIT");
                        mode.store(PASS, Ordering::SeqCst);
                        return;
                    }
                    WITHHOLD_ANSWER if contains(&up[..n], b"BEGIN") => {
                        while mode.load(Ordering::SeqCst) == WITHHOLD_ANSWER {
                            pause().await;
                        }
                    }
                    _ => {}
                }
            }
            Ok(n) = server.read(&mut down) => {
                if n == 0 || client.write_all(&down[..n]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}

fn contains(message: &[u8], word: &[u8]) -> bool {
    message.windows(word.len()).any(|bytes| bytes == word)
}
