//! Each planted bug under load and faults, judged by the oracle that it is there for; and the
//! naive pool without a bug, which the same oracle must pass.
//!
//! The scenario is that of the quickstart in small: an open loop that a slow network overloads, a
//! reset of all links while commits are under way, a silent network, a killed backend. Faults and
//! load have real time in them, so the trials run one after the other, and nothing is said about
//! latencies: T is judged for the subject that breaks it.
#![expect(clippy::unwrap_used, reason = "a broken set-up fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use poolproof_faults::{Proxies, ProxySpec, Stream, Toxic, ToxicSpec};
use poolproof_load::{
    Arrivals, BANK_ACCOUNTS_READ_SQL, EndingWeights, Gauges, LoadSpec, OP_LOG_READ_SQL,
    OP_LOG_SCHEMA_SQL, Running, Schedule, Subject, WeightedWorkload, Workload, start,
};
use poolproof_oracle::{
    BackendRow, Guarantee, GuaranteeResult, GuaranteeStatus, Limits, Observations, OpRecord,
    PoolView, ServerView, Store, guarantees,
};
use poolproof_subjects::{Bug, SubjectConfig, SubjectKind, build};
use poolproof_testbed::{Admin, Backend, BackendTarget, Cluster, LocalConfig, ServerFault};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};
use tokio::time::{Instant, sleep_until};

const PROXY: &str = "postgres";
const APPLICATION: &str = "poolproof/calibration";
const BANK: Workload = Workload::Bank {
    accounts: 64,
    opening_balance: 1_000,
};
const WRITE_SET: Workload = Workload::WriteSet { tables: 3 };
/// What nothing here takes, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POOL_TIMEOUT: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_planted_bug_breaks_its_guarantee_and_the_control_breaks_none() {
    use Guarantee::{C, L1, L2, L6, R1, R2, T, X};
    let bench = Bench::start().await;
    // What must be violated, and what may be besides.
    let expected: [(SubjectKind, &[Guarantee], &[Guarantee]); 7] = [
        (SubjectKind::Naive, &[], &[]),
        (SubjectKind::Poolproof, &[], &[]),
        // The reset breaks the forgotten connections too, which the books still show.
        (SubjectKind::Planted(Bug::Leak), &[L1, L6], &[L2]),
        (SubjectKind::Planted(Bug::Dirty), &[C, X], &[L2, R1, R2]),
        (SubjectKind::Planted(Bug::Lies), &[X], &[]),
        (SubjectKind::Planted(Bug::Twice), &[X], &[]),
        (SubjectKind::Planted(Bug::Stuck), &[T], &[]),
    ];
    for (kind, must, may) in expected {
        let results = bench.trial(kind).await;
        for result in &results {
            let violated = result.status == GuaranteeStatus::Violated;
            let guarantee = result.guarantee;
            assert!(
                violated || !must.contains(&guarantee),
                "{kind} escapes: {result:#?}"
            );
            // A machine that stalls can miss any deadline.
            let excused = guarantee == T || must.contains(&guarantee) || may.contains(&guarantee);
            assert!(!violated || excused, "{kind} also breaks: {result:#?}");
            let told = matches!(
                result.status,
                GuaranteeStatus::Held | GuaranteeStatus::Violated
            );
            assert!(told, "{kind} was not judged: {result:#?}");
        }
    }
    bench.proxies.shutdown().await;
}

struct Bench {
    admin: PgPool,
    proxies: Proxies,
    port: u16,
    cluster: Cluster,
}

/// A subject under load, and what the faults need to know.
struct Aim<'a> {
    bench: &'a Bench,
    origin: Instant,
    gauges: Arc<Gauges>,
}

impl Bench {
    async fn start() -> Self {
        let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
        let admin = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(cluster.options())
            .await
            .unwrap();
        trust_loopback(&admin).await;
        let proxies = Proxies::new(1);
        let upstream = format!("127.0.0.1:{}", cluster.port());
        let proxy = proxies
            .create(ProxySpec::local(PROXY, upstream))
            .await
            .unwrap();
        Self {
            admin,
            proxies,
            port: proxy.listen.rsplit(':').next().unwrap().parse().unwrap(),
            cluster,
        }
    }

    async fn trial(&self, kind: SubjectKind) -> Vec<GuaranteeResult> {
        self.create_tables().await;
        let subject = build(kind, self.config()).await.unwrap();
        let schedule = Arc::new(Schedule::generate(&load(), 7).unwrap());
        let origin = Instant::now();
        let running = start(Arc::clone(&subject), schedule, origin);
        self.break_things(&running, origin).await;
        let ops = running.finish(PATIENCE).await.records;
        let pool = at_rest(&subject).await;
        let server = self.server_at_rest().await;
        let capacity = subject.probe_capacity(15, Duration::from_secs(2)).await;
        let store = self.store(&ops).await;
        subject.close(Duration::from_secs(5)).await;
        guarantees(&Observations {
            limits: Limits {
                pool_timeout_us: 500_000,
                pool_max: Some(15),
                bank_accounts: 64,
                bank_opening_balance: 1_000,
                write_set_tables: 3,
                quiescence_us: 10_000_000,
            },
            ops: &ops,
            faults: &[],
            stalls: &[],
            samples: &[],
            pool: Ok(pool),
            server: Ok(server),
            capacity: Ok(capacity),
            store: Ok(&store),
            bank_snapshots: &[],
            bank_unseen: None,
        })
    }

    fn config(&self) -> SubjectConfig {
        SubjectConfig {
            options: self
                .cluster
                .options()
                .port(self.port)
                .application_name(APPLICATION),
            pool_size: 5,
            max_overflow: 10,
            pool_timeout: POOL_TIMEOUT,
            pre_ping: true,
        }
    }

    async fn create_tables(&self) {
        let mut texts = vec![
            "drop schema public cascade".to_owned(),
            "create schema public".to_owned(),
        ];
        texts.extend(OP_LOG_SCHEMA_SQL.map(str::to_owned));
        texts.extend(BANK.schema_sql());
        texts.extend(WRITE_SET.schema_sql());
        for text in texts {
            sqlx::raw_sql(AssertSqlSafe(text))
                .execute(&self.admin)
                .await
                .unwrap();
        }
    }

    /// The faults, one after the other, each with a look at its effect.
    async fn break_things(&self, running: &Running, origin: Instant) {
        let aim = Aim {
            bench: self,
            origin,
            gauges: running.gauges(),
        };
        aim.until(800).await;
        let slow = aim
            .add(
                Toxic::Latency {
                    latency_ms: 40,
                    jitter_ms: 10,
                },
                Stream::Downstream,
            )
            .await;
        aim.until(1_400).await;
        aim.reset_while_commits_are_in_flight().await;
        aim.until(2_000).await;
        aim.remove(&slow).await;
        aim.until(2_600).await;
        let silence = Toxic::Timeout { timeout_ms: 0 };
        let silent = [
            aim.add(silence, Stream::Upstream).await,
            aim.add(silence, Stream::Downstream).await,
        ];
        aim.until(3_000).await;
        for name in &silent {
            aim.remove(name).await;
        }
        aim.until(3_500).await;
        aim.kill_a_backend().await;
    }

    /// The server's view of the subject once no transaction is open, or after ten seconds.
    async fn server_at_rest(&self) -> ServerView {
        let mut admin = Admin::connect(self.cluster.options()).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let backends = admin.backends(APPLICATION).await.unwrap();
            let busy = backends.iter().any(|backend| backend.in_transaction);
            if !busy || Instant::now() >= deadline {
                return ServerView {
                    backends_peak: backends.len() as u64,
                    backends: backends.into_iter().map(row).collect(),
                    prepared_transactions: admin.prepared_transactions(0).await.unwrap(),
                };
            }
            pause().await;
        }
    }

    async fn store(&self, ops: &[OpRecord]) -> Store {
        assert!(!ops.is_empty());
        let mut write_sets = Vec::new();
        for sql in WRITE_SET.write_set_read_sql() {
            write_sets.push(self.counts(sql).await);
        }
        let accounts = sqlx::query(BANK_ACCOUNTS_READ_SQL)
            .fetch_all(&self.admin)
            .await
            .unwrap();
        Store {
            accounts: accounts
                .iter()
                .map(|row| (row.get::<i32, _>(0).unsigned_abs(), row.get(1)))
                .collect(),
            write_sets,
            op_log: self.counts(OP_LOG_READ_SQL).await,
        }
    }

    async fn counts(&self, sql: &'static str) -> BTreeMap<u64, u64> {
        let rows = sqlx::query(sql).fetch_all(&self.admin).await.unwrap();
        rows.iter()
            .map(|row| {
                (
                    row.get::<i64, _>(0).unsigned_abs(),
                    row.get::<i64, _>(1).unsigned_abs(),
                )
            })
            .collect()
    }
}

impl Aim<'_> {
    async fn until(&self, at_ms: u64) {
        sleep_until(self.origin + Duration::from_millis(at_ms)).await;
    }

    async fn add(&self, toxic: Toxic, stream: Stream) -> String {
        let spec = ToxicSpec::new(toxic, stream);
        self.bench
            .proxies
            .add_toxic(PROXY, spec)
            .await
            .unwrap()
            .name
    }

    async fn remove(&self, name: &str) {
        self.bench.proxies.remove_toxic(PROXY, name).await.unwrap();
    }

    async fn reset_while_commits_are_in_flight(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.gauges.commits_in_flight() < 3 {
            assert!(Instant::now() < deadline, "never three commits in flight");
            pause().await;
        }
        let reset = self.bench.proxies.reset_links(PROXY).unwrap();
        assert!(reset >= 3, "{reset} links were reset");
    }

    async fn kill_a_backend(&self) {
        let mut admin = Admin::connect(self.bench.cluster.options()).await.unwrap();
        let fault = ServerFault::TerminateBackend {
            target: BackendTarget::InTransaction,
        };
        let effect = admin.inject(&fault, APPLICATION, PATIENCE).await.unwrap();
        assert_eq!(effect.pids().len(), 1);
    }
}

/// Lets clients in without a password: SCRAM costs an unoptimised build more time than the faults.
async fn trust_loopback(admin: &PgPool) {
    let directory: String = sqlx::query_scalar("show data_directory")
        .fetch_one(admin)
        .await
        .unwrap();
    let replace = format!(
        "copy (values ('host all all 127.0.0.1/32 trust')) to '{directory}/pg_hba.conf'; \
         select pg_reload_conf()"
    );
    sqlx::raw_sql(AssertSqlSafe(replace))
        .execute(admin)
        .await
        .unwrap();
}

fn row(backend: Backend) -> BackendRow {
    BackendRow {
        pid: backend.pid,
        state: backend.state,
        in_transaction: backend.in_transaction,
        locks: backend.locks,
    }
}

fn load() -> LoadSpec {
    LoadSpec {
        rate_per_s: 400.0,
        arrivals: Arrivals::Poisson,
        duration: Duration::from_secs(4),
        deadline: DEADLINE,
        hold: Duration::ZERO,
        clean_checks: 0.1,
        endings: EndingWeights {
            commit: 80,
            rollback: 10,
            panic: 3,
            cancel: 7,
        },
        cancel_within: Duration::from_millis(8),
        workloads: vec![
            WeightedWorkload {
                workload: BANK,
                weight: 1,
            },
            WeightedWorkload {
                workload: WRITE_SET,
                weight: 1,
            },
        ],
    }
}

/// The subject's books once nothing is under way, or after ten seconds.
async fn at_rest(subject: &Arc<dyn Subject>) -> PoolView {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let view = subject.view();
        let busy = [view.in_use, view.waiting, view.opening, view.closing];
        if busy.iter().all(|count| *count == Some(0)) || Instant::now() >= deadline {
            return view;
        }
        pause().await;
    }
}

async fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "between two looks at a condition"
    )]
    tokio::time::sleep(Duration::from_millis(1)).await;
}
