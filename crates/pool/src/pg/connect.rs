//! How a connection is opened: a name with several addresses, and which refusals are for good.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an address may say nothing before others are tried. Where there is an answer at all, it comes
/// within one round trip.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// How PgBouncer begins to say what lasts.
const POOLER_REFUSALS: [&str; 5] = [
    "unsupported startup parameter",
    "no such database",
    "no such user",
    "password authentication failed",
    "SSL required",
];

/// Opens a connection, also where the host's name has several addresses and one of them is silent.
///
/// sqlx asks the addresses one after the other, and waits at a silent one for as long as the operating system
/// does. So after half a second all are asked, and where one is silent another one is connected to. Then the
/// server is told the address in place of the name in the TLS handshake, and so `verify-full`, which checks
/// the name, waits as sqlx does.
pub(super) async fn open(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let usual = options.connect();
    if is_local(options) || matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
        return usual.await;
    }
    let addresses = async {
        let found = lookup_host((options.get_host(), options.get_port())).await?;
        Ok(found.collect())
    };
    past_silence(usual, addresses, async |address| {
        let address = options.clone().host(&address.ip().to_string());
        address.connect().await
    })
    .await
}

/// Waits for the usual way, unless it meets an address that is silent while another one answers.
async fn past_silence<T>(
    usual: impl Future<Output = sqlx::Result<T>>,
    addresses: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    connect_to: impl AsyncFnOnce(SocketAddr) -> sqlx::Result<T>,
) -> sqlx::Result<T> {
    let mut usual = pin!(usual);
    if let Ok(opened) = timeout(SILENCE_MAX, &mut usual).await {
        return opened;
    }
    let other = async { beside_silent(&addresses.await.ok()?).await };
    tokio::select! {
        opened = &mut usual => opened,
        Some(address) = other => connect_to(address).await,
    }
}

/// Returns the first address that answers, if another one is silent.
async fn beside_silent(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    if addresses.len() < 2 {
        return None;
    }
    let mut asked = JoinSet::new();
    for &address in addresses {
        asked.spawn(async move {
            let answer = timeout(SILENCE_MAX, TcpStream::connect(address)).await;
            (address, answer.map(|answer| answer.is_ok()))
        });
    }
    let answers = asked.join_all().await;
    let is_silent = answers.iter().any(|(_, answer)| answer.is_err());
    let accepts = |address: &&SocketAddr| answers.contains(&(**address, Ok(true)));
    addresses
        .iter()
        .find(accepts)
        .copied()
        .filter(|_| is_silent)
}

/// Returns whether the server is reached by a socket in the file system.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || options.get_host().starts_with('/')
}

/// Returns whether trying to connect again cannot help, as long as nobody changes something.
pub(super) fn is_permanent(error: &sqlx::Error, options: &PgConnectOptions) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            is_permanent_answer(error.code().as_deref().unwrap_or_default(), error.message())
        }
        // rustls tells of certificates through the socket, by nothing but the text.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            error.to_string().contains("invalid peer certificate")
        }
        sqlx::Error::Io(error) => is_unreadable_file(error, options),
        // TLS that the server does not have, or a certificate that is none.
        sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

fn is_permanent_answer(code: &str, message: &str) -> bool {
    match code {
        // No such database, no privilege to connect, a database that takes no connections.
        "3D000" | "42501" | "55000"
        // A start-up option that is unknown, has no such value, cannot be set, or does not parse.
        | "42704" | "22023" | "55P02" | "42601"
        // Something that the server does not do, such as a version of the protocol.
        | "0A000" => true,
        // PgBouncer has this one code for all that it says itself, lasting or not.
        "08P01" => POOLER_REFUSALS.iter().any(|text| message.starts_with(text)),
        // Wrong password, no such role, nothing in pg_hba.conf.
        _ => code.starts_with("28"),
    }
}

/// Returns whether a certificate or key cannot be read. A socket that is not there may come.
pub(super) fn is_unreadable_file(error: &io::Error, options: &PgConnectOptions) -> bool {
    let unreadable = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
    !is_local(options) && unreadable.contains(&error.kind())
}

#[cfg(test)]
mod tests;
