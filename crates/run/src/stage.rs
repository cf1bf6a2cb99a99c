//! Sets up everything that a trial needs on its bench, and takes it down again.

use std::sync::Arc;
use std::time::Duration;

use poolproof_faults::{Proxies, ProxySpec};
use poolproof_load::{Subject, Workload};
use poolproof_subjects::SubjectConfig;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::RunError;
use crate::bench::{Bench, PREPARE, bracketed, describe_target};
use crate::claim::{ClaimError, reconnected};
use crate::error::{SlowStep, chain};
use crate::interrupt::Interrupt;
use crate::keeper::Keeper;
use crate::namespace::{CreateError, Namespace, in_schema};
use crate::progress::{ProgressSink, phase};
use crate::trial::{Planned, Trial};

/// The name of the one proxy of a trial.
pub(crate) const PROXY: &str = "postgres";
/// How long the subject may take to close.
const CLOSE: Duration = Duration::from_secs(5);

/// Everything that a trial has on its bench.
pub(crate) struct Stage<'b> {
    pub(crate) bench: &'b Bench,
    pub(crate) schema: String,
    pub(crate) application_name: String,
    /// None while its keeper has it.
    pub(crate) namespace: Option<Namespace>,
    /// Why the schema is not the trial's own any more, if so.
    pub(crate) claim_lost: Option<String>,
    pub(crate) proxies: Proxies,
    pub(crate) subject: Arc<dyn Subject>,
}

impl<'b> Stage<'b> {
    /// Makes the tables, stands the proxy before the server, and builds the subject. What fails, or is
    /// interrupted, takes along what was made before it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the schema in the database: the interrupt does not.
    pub(crate) async fn set_up(
        bench: &'b Bench,
        trial: &Planned,
        progress: &mut ProgressSink<'_>,
        interrupt: &Interrupt,
    ) -> Result<Self, RunError> {
        // On the heap: connecting makes large futures.
        let prepared = Box::pin(async {
            bench.check_room(trial).await?;
            let stage = Self::prepare(bench, trial, interrupt).await?;
            let detail = format!("{} behind the fault proxy", stage.subject.info().version);
            Ok((stage, detail))
        });
        let what = "tables, fault proxy, subject";
        phase(progress, "prepare", what, prepared).await
    }

    async fn prepare(
        bench: &'b Bench,
        trial: &Planned,
        interrupt: &Interrupt,
    ) -> Result<Self, RunError> {
        let schema = Namespace::schema_name(&trial.id);
        let application_name = format!("poolproof/{}/{}", trial.id, trial.trial.subject);
        let names = (schema.as_str(), application_name.as_str());
        let mut namespace = create_tables(&bench.direct, names, &trial.workloads()).await?;
        let proxies = Proxies::new(trial.trial.seed);
        let subject = interrupt.or(async {
            let through = stand_proxy(&proxies, &bench.direct).await?;
            let through = in_schema(&through, &schema).application_name(&application_name);
            build_subject(&trial.trial, through).await
        });
        let subject = match subject.await {
            Ok(subject) => subject,
            Err(error) => {
                // The error is what the user has to know; a schema that stays is dropped by the next
                // trial.
                drop(tokio::time::timeout(PREPARE, namespace.remove()).await);
                return Err(error);
            }
        };
        // Shows whether the server lets the subject's connections be seen. What stands in the way is
        // found again, and told, before the verdict.
        drop(namespace.prove().await);
        Ok(Self {
            bench,
            schema,
            application_name,
            namespace: Some(namespace),
            claim_lost: None,
            proxies,
            subject,
        })
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
        let swept = self.namespace.as_ref().map(Namespace::swept);
        notes.extend_from_slice(swept.unwrap_or_default());
        notes
    }

    /// Closes and drops everything, and returns what could not be.
    pub(crate) async fn teardown(mut self) -> Vec<String> {
        let mut problems = Vec::new();
        self.subject.close(CLOSE).await;
        self.proxies.shutdown().await;
        // With a private server that died its schema is gone too.
        if let Some(namespace) = self.namespace.take()
            && !self.bench.is_gone()
        {
            match tokio::time::timeout(PREPARE, namespace.remove()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let why = chain(&error);
                    problems.push(format!("schema {} was not dropped: {why}", self.schema));
                }
                Err(_) => problems.push(format!("schema {} was not dropped in time", self.schema)),
            }
        }
        problems
    }
}

async fn create_tables(
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
    trial: &Trial,
    through: PgConnectOptions,
) -> Result<Arc<dyn Subject>, RunError> {
    let pool = &trial.scenario.pool;
    let config = SubjectConfig {
        options: through,
        pool_size: pool.pool_size,
        max_overflow: pool.max_overflow,
        pool_timeout: pool.pool_timeout,
        pre_ping: pool.pre_ping,
    };
    poolproof_subjects::build(trial.subject, config)
        .await
        .map_err(|source| RunError::Subject {
            name: trial.subject.to_string(),
            source,
        })
}
