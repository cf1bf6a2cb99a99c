//! Sets up everything that a run needs, and takes it down again.

use std::sync::Arc;
use std::time::Duration;

use poolproof_faults::{Proxies, ProxySpec};
use poolproof_load::{Subject, Workload};
use poolproof_subjects::SubjectConfig;
use poolproof_testbed::{
    Admin, AdminError, Cluster, Container, ContainerConfig, ContainerError, Existing, LocalConfig,
    Server, ServerInfo, StartError,
};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::check::room_for;
use crate::claim::{ClaimError, reconnected};
use crate::error::{SlowStep, chain};
use crate::execute::{PostgresChoice, Run, RunOptions};
use crate::keeper::Keeper;
use crate::namespace::{CreateError, Namespace, in_schema};
use crate::progress::{Progress, ProgressSink};
use crate::{RunError, check_blast_radius};

/// The name of the one proxy of a run.
pub(crate) const PROXY: &str = "postgres";
/// How long reaching the server and making the tables may take.
const PREPARE: Duration = Duration::from_secs(30);
/// Connections that a run has beside the pool's: claim, bank, server faults, last look.
pub(crate) const OWN_CONNECTIONS: u32 = 4;
/// How long the subject may take to close.
const CLOSE: Duration = Duration::from_secs(5);

/// Everything that a run started. Dropping it stops a private server too, but only
/// [`Stage::teardown`] says whether that went well.
pub(crate) struct Stage {
    pub(crate) server: Server,
    /// Straight to the server.
    pub(crate) direct: PgConnectOptions,
    pub(crate) info: ServerInfo,
    pub(crate) schema: String,
    pub(crate) application_name: String,
    /// None while its keeper has it.
    pub(crate) namespace: Option<Namespace>,
    /// Why the schema is not the run's own any more, if so.
    pub(crate) claim_lost: Option<String>,
    pub(crate) proxies: Proxies,
    pub(crate) subject: Arc<dyn Subject>,
}

impl Stage {
    /// Starts or reaches the server, makes the tables, stands the proxy before it, and builds the
    /// subject. What fails, or is interrupted, takes along what was made before it.
    ///
    /// # Cancel safety
    /// Dropping the future stops what was started so far, but leaves the schema in an existing
    /// database: the interrupt does not.
    pub(crate) async fn set_up(
        run: &Run,
        progress: &mut ProgressSink<'_>,
    ) -> Result<Self, RunError> {
        let options = &run.options;
        // On the heap, here and below: connecting makes large futures.
        let reached = Box::pin(async {
            let started = start_server(options, &run.id);
            let server = unless_interrupted(run, started).await?;
            let info = look_at(run, &server).await?;
            // "PostgreSQL 15.18" of a line that goes on with the compiler.
            let mut words = info.version_text.split_whitespace();
            let version: Vec<_> = words.by_ref().take(2).collect();
            let detail = format!("{}, {}", version.join(" "), server.source());
            Ok(((server, info), detail))
        });
        let server = phase(progress, "postgres", "start or reach the server", reached);
        let (server, info) = server.await?;
        let direct = server.options();

        let schema = Namespace::schema_name(&run.id);
        let application_name = format!("poolproof/{}/{}", run.id, options.subject);
        let prepared = Box::pin(async {
            let names = (schema.as_str(), application_name.as_str());
            let mut namespace = prepare(&direct, names, &run.workloads()).await?;
            let proxies = Proxies::new(options.seed);
            let subject = unless_interrupted(run, async {
                let through = stand_proxy(&proxies, &direct).await?;
                let through = in_schema(&through, &schema).application_name(&application_name);
                build_subject(options, through).await
            });
            let subject = match subject.await {
                Ok(subject) => subject,
                Err(error) => {
                    // The error is what the user has to know; a schema that stays is dropped by
                    // the next run.
                    drop(tokio::time::timeout(PREPARE, namespace.remove()).await);
                    return Err(error);
                }
            };
            // Shows whether the server lets the subject's connections be seen. What stands in the way
            // is found again, and told, before the verdict.
            drop(namespace.prove().await);
            let detail = format!("{} behind the fault proxy", subject.info().version);
            let stage = Self {
                server,
                direct,
                info,
                schema,
                application_name,
                namespace: Some(namespace),
                claim_lost: None,
                proxies,
                subject,
            };
            Ok((stage, detail))
        });
        phase(
            progress,
            "prepare",
            "tables, fault proxy, subject",
            prepared,
        )
        .await
    }

    /// Keeps the claim on the schema while `work` goes on.
    pub(crate) async fn keeping<T>(&mut self, work: impl AsyncFnOnce(&Self) -> T) -> T {
        let keeper = self.namespace.take().map(Keeper::start);
        let done = work(self).await;
        if let Some(keeper) = keeper {
            match keeper.stop().await {
                Some(kept) => {
                    self.namespace = Some(kept.namespace);
                    self.claim_lost = kept.lost;
                }
                None => self.claim_lost = Some("the claim's keeper panicked".to_owned()),
            }
        }
        done
    }

    /// Says what became of the run's own connections.
    pub(crate) fn notes(&self) -> Vec<String> {
        let reconnects = self.namespace.as_ref().map_or(0, Namespace::reconnects);
        let mut notes: Vec<_> = reconnected("the claim on the schema", reconnects)
            .into_iter()
            .collect();
        notes.extend(self.claim_lost.clone());
        notes
    }

    /// Returns whether the server is known to be gone. Only a private server can be known so.
    pub(crate) fn server_is_gone(&self) -> bool {
        !self.server.is_running()
    }

    /// Closes, drops, stops and removes everything, and returns what could not be.
    pub(crate) async fn teardown(mut self) -> Vec<String> {
        let mut problems = Vec::new();
        self.subject.close(CLOSE).await;
        self.proxies.shutdown().await;
        if let Some(namespace) = self.namespace.take()
            && !self.server.capabilities().disposable
        {
            match tokio::time::timeout(PREPARE, namespace.remove()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    problems.push(format!("schema {} was not dropped: {error}", self.schema));
                }
                Err(_) => problems.push(format!("schema {} was not dropped in time", self.schema)),
            }
        }
        if let Err(error) = self.server.stop().await {
            problems.push(format!(
                "the private Postgres was not stopped cleanly: {}",
                chain(&error)
            ));
        }
        problems
    }
}

/// Announces a phase, does it, and says what came of it.
pub(crate) async fn phase<T>(
    progress: &mut ProgressSink<'_>,
    name: &str,
    detail: &str,
    work: impl Future<Output = Result<(T, String), RunError>>,
) -> Result<T, RunError> {
    let began = tokio::time::Instant::now();
    progress(Progress::PhaseStarted {
        name: name.to_owned(),
        detail: detail.to_owned(),
    });
    let (value, detail) = work.await?;
    progress(Progress::PhaseEnded {
        name: name.to_owned(),
        detail,
        took: began.elapsed(),
    });
    Ok(value)
}

/// Does `work`, or gives it up when the run is interrupted.
async fn unless_interrupted<T>(
    run: &Run,
    work: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    tokio::select! {
        done = work => done,
        () = run.interrupt.triggered() => Err(RunError::Interrupted),
    }
}

async fn start_server(options: &RunOptions, run_id: &str) -> Result<Server, RunError> {
    let settings = &options.scenario.postgres.settings;
    match &options.postgres {
        PostgresChoice::Local => {
            let config = LocalConfig {
                run_id: run_id.to_owned(),
                settings: settings.clone(),
                ..LocalConfig::default()
            };
            let cluster = Cluster::start(config).await.map_err(|error| match error {
                StartError::SettingRefused { refused } => {
                    RunError::Scenario(options.scenario.refused(&refused))
                }
                other => RunError::Start(Box::new(other)),
            })?;
            Ok(Server::Local(cluster))
        }
        PostgresChoice::Container(image) => {
            let config = ContainerConfig {
                run_id: run_id.to_owned(),
                image: image.clone(),
                settings: settings.clone(),
                ..ContainerConfig::default()
            };
            let started = Container::start(config).await;
            let container = started.map_err(|error| match error {
                ContainerError::SettingRefused { refused } => {
                    RunError::Scenario(options.scenario.refused(&refused))
                }
                other => RunError::Container(Box::new(other)),
            })?;
            Ok(Server::Container(container))
        }
        PostgresChoice::Url(url) => {
            check_blast_radius(url, &options.remote)?;
            let target = describe_target(&url.options());
            Ok(Server::Existing(Existing::new(url.options(), target)))
        }
    }
}

/// Asks the server about itself, and whether it has room for the pool and the run.
async fn look_at(run: &Run, server: &Server) -> Result<ServerInfo, RunError> {
    let unanswered = |source: AdminError| RunError::Connect {
        target: describe_target(&server.options()),
        source: Box::new(source),
    };
    let mut admin = connect_admin(&server.options()).await?;
    let info = admin.server_info().await.map_err(unanswered)?;
    let room = room_for(&mut admin, &info).await.map_err(unanswered)?;
    let pool = &run.options.scenario.pool;
    // A pool without a limit is at least asked for twice its size in the end.
    let overflow = u32::try_from(pool.max_overflow).unwrap_or(pool.pool_size);
    let pool_max = pool.pool_size.saturating_add(overflow);
    if room.usable() < pool_max.saturating_add(OWN_CONNECTIONS) {
        return Err(RunError::NoRoom { room, pool_max });
    }
    Ok(info)
}

async fn connect_admin(direct: &PgConnectOptions) -> Result<Admin, RunError> {
    match tokio::time::timeout(PREPARE, Admin::connect(direct.clone())).await {
        Ok(Ok(admin)) => Ok(admin),
        Ok(Err(source)) => Err(RunError::Connect {
            target: describe_target(direct),
            source: Box::new(source),
        }),
        Err(_) => Err(RunError::Slow {
            step: SlowStep::Connecting,
            limit: PREPARE,
        }),
    }
}

async fn prepare(
    direct: &PgConnectOptions,
    (schema, subject): (&str, &str),
    workloads: &[Workload],
) -> Result<Namespace, RunError> {
    let create = Namespace::create(direct, schema, subject, workloads);
    let created = tokio::time::timeout(PREPARE, create).await;
    let error = match created {
        Ok(Ok(namespace)) => return Ok(namespace),
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(RunError::Slow {
                step: SlowStep::Creating,
                limit: PREPARE,
            });
        }
    };
    let schema = schema.to_owned();
    Err(match error {
        CreateError::Sql(source) => RunError::Prepare { schema, source },
        CreateError::Claim(ClaimError::Elsewhere { found }) => {
            RunError::Elsewhere { schema, found }
        }
        CreateError::Claim(ClaimError::Taken { .. } | ClaimError::Dropped { .. }) => {
            RunError::NotKept { schema }
        }
        CreateError::Claim(ClaimError::Ask(source)) => RunError::Connect {
            target: describe_target(direct),
            source: Box::new(source),
        },
    })
}

/// Stands a proxy before the server and returns the options that lead through it.
async fn stand_proxy(
    proxies: &Proxies,
    direct: &PgConnectOptions,
) -> Result<PgConnectOptions, RunError> {
    let spec = ProxySpec {
        name: PROXY.to_owned(),
        listen: Some("127.0.0.1:0".to_owned()),
        upstream: format!("{}:{}", bracketed(direct.get_host()), direct.get_port()),
        enabled: true,
    };
    let view = proxies.create(spec).await.map_err(RunError::Proxy)?;
    let port = view
        .listen
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .expect("bug: a started proxy tells the address it listens on");
    let through = direct.clone().host("127.0.0.1").port(port);
    // The certificate names the server, and the client sees the proxy.
    Ok(match direct.get_ssl_mode() {
        PgSslMode::VerifyFull => through.ssl_mode(PgSslMode::VerifyCa),
        _ => through,
    })
}

async fn build_subject(
    options: &RunOptions,
    through: PgConnectOptions,
) -> Result<Arc<dyn Subject>, RunError> {
    let pool = &options.scenario.pool;
    let config = SubjectConfig {
        options: through,
        pool_size: pool.pool_size,
        max_overflow: pool.max_overflow,
        pool_timeout: pool.pool_timeout,
        pre_ping: pool.pre_ping,
    };
    poolproof_subjects::build(options.subject, config)
        .await
        .map_err(|source| RunError::Subject {
            name: options.subject.to_string(),
            source,
        })
}

/// Returns host, port and database; never a password.
pub(crate) fn describe_target(options: &PgConnectOptions) -> String {
    let (host, database) = (bracketed(options.get_host()), database_of(options));
    format!("{host}:{}/{database}", options.get_port())
}

/// Returns the database; without a name in the options it is that of the user, as everywhere.
pub(crate) fn database_of(options: &PgConnectOptions) -> String {
    options
        .get_database()
        .unwrap_or_else(|| options.get_username())
        .to_owned()
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}
