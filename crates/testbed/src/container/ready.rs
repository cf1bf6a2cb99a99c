//! Waits for the server in a container: for the answer to a query, at the best of its addresses.

use std::fs;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{Connection, Row};
use testcontainers::ContainerAsync;
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::InspectContainerOptions;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Held;
use super::error::ContainerError;
use super::image::{Order, PORT, Postgres};
use super::life::Death;
use crate::last_words::{refused_settings, tail};
use crate::template::{DATABASE, SUPERUSER};

/// How long a server may take from its container's start to its first answer: it makes its data
/// directory first.
const READY_WITHIN: Duration = Duration::from_secs(60);
const TRY_EVERY: Duration = Duration::from_millis(25);
/// One attempt. Where the engine runs in a virtual machine, its bridge swallows packets.
const TRY_WITHIN: Duration = Duration::from_secs(2);
/// How long what a container printed last may be on its way.
const LOG_WITHIN: Duration = Duration::from_secs(5);

/// Waits until the server answers and returns the way to it.
pub(super) async fn wait(
    held: &mut Held,
    docker: &Docker,
    order: &Order<'_>,
) -> Result<PgConnectOptions, ContainerError> {
    let mut last = None;
    let mut ways = Vec::new();
    let mut ticks = interval(TRY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let answered = async {
        loop {
            ticks.tick().await;
            let death = *held.life.borrow_and_update();
            if let Some(death) = death {
                return Err(explain(held, order, death).await);
            }
            if ways.is_empty()
                && let Some(container) = &held.container
            {
                ways = ways_to(container, docker, order).await;
            }
            // Twice: the better way may have opened a moment after it was tried.
            if first_answer(&ways, order, &mut last).await.is_some()
                && let Some(best) = first_answer(&ways, order, &mut last).await
            {
                return Ok(best);
            }
        }
    };
    match timeout(READY_WITHIN, answered).await {
        Ok(end) => end,
        Err(_elapsed) => Err(ContainerError::NotReady {
            within: READY_WITHIN,
            log: tail(&log(held)),
            source: last,
        }),
    }
}

/// The ways to the server, the best first.
///
/// Straight to the container, what is refused is refused; through a published port the engine's
/// proxy takes every connection, and ends it when nobody is behind. But where the engine runs in a
/// virtual machine, or elsewhere, there is no other way.
async fn ways_to(
    container: &ContainerAsync<Postgres>,
    docker: &Docker,
    order: &Order<'_>,
) -> Vec<PgConnectOptions> {
    let mut ways = Vec::new();
    if order.engine_is_here
        && let Some(host) = bridge_address(container.id(), docker).await
    {
        ways.push(options(&host, PORT, order.password));
    }
    if let Ok(port) = container.get_host_port_ipv4(PORT).await
        && let Ok(host) = container.get_host().await
    {
        // By name it could be the other loopback address.
        let host = match host.to_string() {
            name if name == "localhost" => "127.0.0.1".to_owned(),
            host => host,
        };
        ways.push(options(&host, port, order.password));
    }
    ways
}

async fn bridge_address(id: &str, docker: &Docker) -> Option<String> {
    let seen = docker.inspect_container(id, None::<InspectContainerOptions>);
    let networks = seen.await.ok()?.network_settings?.networks?;
    networks
        .into_values()
        .filter_map(|network| network.ip_address)
        .find(|address| !address.is_empty())
}

/// Returns the first way on which our own server answers.
async fn first_answer(
    ways: &[PgConnectOptions],
    order: &Order<'_>,
    last: &mut Option<sqlx::Error>,
) -> Option<PgConnectOptions> {
    for way in ways {
        match timeout(TRY_WITHIN, cluster_name(way)).await {
            // Another server may have the address.
            Ok(Ok(name)) if name == order.cluster_name => return Some(way.clone()),
            Ok(Ok(_stranger)) => {}
            Ok(Err(error)) => *last = Some(error),
            Err(_elapsed) => {}
        }
    }
    None
}

async fn cluster_name(options: &PgConnectOptions) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let row = sqlx::query("select current_setting('cluster_name')")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    row.try_get(0)
}

fn options(host: &str, port: u16, password: &str) -> PgConnectOptions {
    // As for a cluster: nothing is left for a `PG*` variable of the user.
    PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(port)
        .username(SUPERUSER)
        .password(password)
        .database(DATABASE)
        .ssl_mode(PgSslMode::Disable)
        .application_name("poolproof")
}

/// Why the container ended while its server was starting.
async fn explain(held: &mut Held, order: &Order<'_>, death: Death) -> ContainerError {
    let code = match death {
        Death::Removed => return ContainerError::Removed,
        Death::Exited { code, .. } => code,
    };
    if let Some(kept) = held.log.take() {
        // Its last words are on their way; without them there is less to tell.
        drop(timeout(LOG_WITHIN, kept).await);
    }
    let log = log(held);
    let refused = refused_settings(&log, order.settings);
    if !refused.is_empty() {
        return ContainerError::SettingRefused { refused };
    }
    ContainerError::Exited {
        code,
        log: tail(&log),
    }
}

fn log(held: &Held) -> String {
    fs::read_to_string(held.run.log()).unwrap_or_default()
}
