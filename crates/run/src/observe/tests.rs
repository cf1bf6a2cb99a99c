//! Each look at the server is broken in turn, after a pool has lied. Whatever could not be seen makes
//! the run inconclusive, and a look that could be taken all the same finds the lie out. None passes.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use poolproof_oracle::{Guarantee, GuaranteeStatus, ServerView, Verdict};
use poolproof_subjects::{Bug, SubjectKind};
use poolproof_testbed::{Cluster, LocalConfig, PgBouncer, PoolMode};
use poolproof_url::DatabaseUrl;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{LookError, Observed, observe, told};
use crate::drive::drive;
use crate::execute::Run;
use crate::stage::{PROXY, Stage};
use crate::{Interrupt, PostgresChoice, RemoteConsent, RunError, RunOptions, Scenario};

/// One op in 32 of the planted pool is a lie.
const SCENARIO: &str = r#"
name = "looks"
[pool]
pool_size = 3
max_overflow = 2
pool_timeout = "5s"
[load]
rate = 150
duration = "1s"
deadline = "10s"
clean_checks = 0.2
[[load.workload]]
kind = "bank"
[[load.workload]]
kind = "write-set"
"#;

/// What is done to the server or the proxy.
enum Break {
    /// Statements of a superuser; `{schema}` is the run's.
    Sql(&'static str),
    /// One backend dies, and the server recovers: all connections and locks are gone.
    Crash,
    /// Another session takes the lock on the schema at the moment the run loses it.
    Neighbour,
    /// The fault proxy goes.
    Proxy,
}

/// When it is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    BeforeTheRun,
    BeforeTheLoad,
    AfterTheLoad,
}

use When::{AfterTheLoad, BeforeTheLoad, BeforeTheRun};

/// Ends the connections that hold the locks of runs.
const END_CLAIMS: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where application_name like 'poolproof/%/claim'";

const TABLES: &[Guarantee] = &[Guarantee::R1, Guarantee::R2, Guarantee::X];

/// What is broken, when, and what must come of it: the verdict, and which guarantees are void.
const CASES: [(&str, When, Break, Verdict, &[Guarantee]); 13] = [
    // The run's own connections outlive what ends those of others.
    (
        "idle sessions ended",
        BeforeTheRun,
        Break::Sql("alter role app set idle_session_timeout = '100ms'"),
        Verdict::Fail,
        &[],
    ),
    (
        "slow statements ended",
        BeforeTheRun,
        Break::Sql("alter role app set statement_timeout = '20ms'"),
        Verdict::Fail,
        &[],
    ),
    // The run's own connection is opened again, and nobody dropped anything meanwhile.
    (
        "claim ended once",
        AfterTheLoad,
        Break::Sql(END_CLAIMS),
        Verdict::Fail,
        &[],
    ),
    (
        "server recovered from a crash",
        AfterTheLoad,
        Break::Crash,
        Verdict::Fail,
        &[],
    ),
    (
        "nobody is let in any more",
        AfterTheLoad,
        Break::Sql(
            "alter role app nologin; select pg_terminate_backend(pid) from pg_stat_activity \
                 where usename = 'app'",
        ),
        Verdict::Inconclusive,
        &[
            Guarantee::L2,
            Guarantee::L6,
            Guarantee::R1,
            Guarantee::R2,
            Guarantee::X,
        ],
    ),
    (
        "permission revoked",
        AfterTheLoad,
        Break::Sql("revoke all on all tables in schema {schema} from app"),
        Verdict::Inconclusive,
        TABLES,
    ),
    (
        "table gone",
        AfterTheLoad,
        Break::Sql("drop table {schema}.op_log"),
        Verdict::Inconclusive,
        TABLES,
    ),
    (
        "schema dropped",
        AfterTheLoad,
        Break::Sql("drop schema {schema} cascade"),
        Verdict::Inconclusive,
        TABLES,
    ),
    (
        "schema dropped and made again",
        AfterTheLoad,
        Break::Sql(
            "alter schema {schema} rename to copied; create schema {schema} authorization app; \
                 create table {schema}.op_log as table copied.op_log; \
                 create table {schema}.bank_account as table copied.bank_account; \
                 create table {schema}.write_set_0 as table copied.write_set_0; \
                 create table {schema}.write_set_1 as table copied.write_set_1; \
                 create table {schema}.write_set_2 as table copied.write_set_2; \
                 alter table {schema}.op_log owner to app; drop schema copied cascade",
        ),
        Verdict::Inconclusive,
        TABLES,
    ),
    (
        "lock lost to a neighbour",
        AfterTheLoad,
        Break::Neighbour,
        Verdict::Inconclusive,
        TABLES,
    ),
    // The lies were told before, and the tables show them.
    (
        "proxy gone after the lies",
        AfterTheLoad,
        Break::Proxy,
        Verdict::Fail,
        &[Guarantee::L6],
    ),
    (
        "proxy gone before the load",
        BeforeTheLoad,
        Break::Proxy,
        Verdict::Inconclusive,
        &[
            Guarantee::L6,
            Guarantee::C,
            Guarantee::R1,
            Guarantee::R2,
            Guarantee::X,
        ],
    ),
    (
        "bank out of sight while the load was on",
        BeforeTheLoad,
        Break::Sql("revoke select on {schema}.bank_account from app"),
        Verdict::Inconclusive,
        TABLES,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_look_that_failed_lets_a_lying_pool_pass() {
    // Most of the time of each is waiting.
    let mut runs = futures_util::stream::iter(CASES)
        .map(|case| async move {
            let observed = Bench::start().await.run(case.1, &case.2).await;
            (case, observed)
        })
        .buffer_unordered(4);
    while let Some(((name, when, _, verdict, void), observed)) = runs.next().await {
        let results = &observed.guarantees;
        let judged = poolproof_oracle::verdict(results, &[], &[]);
        assert_eq!(judged.0, verdict, "{name}: {results:#?}");
        let found: Vec<_> = results
            .iter()
            .filter(|result| matches!(result.status, GuaranteeStatus::Void(_)))
            .map(|result| result.guarantee)
            .collect();
        assert_eq!(found, void, "{name}: {results:#?}");
        // It says so when a connection of its own did not last, and only then.
        if verdict == Verdict::Fail && void.is_empty() {
            let notes = &observed.notes;
            let reopened = notes.iter().any(|note| note.contains("opened it again"));
            assert_eq!(reopened, when == AfterTheLoad, "{name}: {notes:?}");
        }
        assert!(!observed.server_lost, "{name}");
    }
}

/// Method: the first run loses the connection that holds its lock, and the second sweeps before the
/// first could take it again; the subject's connections live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_lost_its_lock_and_lives_is_not_swept_by_the_next() {
    let bench = Bench::start().await;
    let plan = || Run::plan(bench.options(), Interrupt::new().1).unwrap();
    let (first, second) = (plan(), plan());
    let mut stage = Box::pin(Stage::set_up(&first, &mut |_| {})).await.unwrap();
    let mut boss = bench.superuser().await;
    boss.execute(END_CLAIMS).await.unwrap();
    let neighbour = Box::pin(Stage::set_up(&second, &mut |_| {})).await.unwrap();
    let schemas = "select count(*) from pg_namespace where nspname like 'poolproof\\_%'";
    let row = boss.fetch_one(schemas).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 2);

    let loaded = stage.keeping(async |stage| drive(&first, stage, &mut |_| {}).await);
    let loaded = Box::pin(loaded).await;
    let observed = Box::pin(observe(&first, &mut stage, &loaded)).await;
    assert_eq!(observed.store.as_ref().err(), None);
    for stage in [stage, neighbour] {
        assert_eq!(Box::pin(stage.teardown()).await, Vec::<String>::new());
    }
    let row = boss.fetch_one(schemas).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
    bench.cluster.stop().await.unwrap();
}

/// A pooler drops the start-up parameter that leads names into the run's schema: its tables would be made,
/// and stay, in `public`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_nothing_is_written_and_the_error_says_what_to_do() {
    let cluster = Arc::new(Cluster::start(LocalConfig::default()).await.unwrap());
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let pooler = PgBouncer::start(Arc::clone(&cluster), mode).unwrap();
        let url = pooler.options().to_url_lossy().to_string();
        let reports = TempDir::new().unwrap();
        let run = Run::plan(options(&url, reports.path()), Interrupt::new().1).unwrap();
        let Err(error) = Box::pin(Stage::set_up(&run, &mut |_| {})).await else {
            panic!("{mode:?}: the run was set up")
        };
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(
            matches!(error, RunError::Elsewhere { .. }),
            "{mode:?}: {error:?}"
        );
        let help = error.help().unwrap_or_default();
        assert!(help.contains("name the server's own host"), "{help}");
    }
    let mut boss = PgConnection::connect_with(&cluster.options())
        .await
        .unwrap();
    let made =
        "select count(*) from pg_class where relname = 'op_log' or relname like 'write_set%'";
    let row = boss.fetch_one(made).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

#[test]
fn a_server_that_does_not_tell_what_its_backends_do_is_not_believed() {
    for (state, reason) in [
        ("disabled", "track_activities"),
        ("", "the role may not see"),
    ] {
        let view = ServerView {
            backends: vec![poolproof_oracle::BackendRow {
                pid: 7,
                state: state.to_owned(),
                in_transaction: false,
                locks: 0,
            }],
            backends_peak: 1,
            prepared_transactions: 0,
        };
        let Err(LookError::Failed(text)) = told(view) else {
            panic!("{state:?} was believed");
        };
        assert!(text.contains(reason), "{text}");
    }
}

/// A server with a role that is no superuser, and a run on it.
struct Bench {
    cluster: Cluster,
    reports: TempDir,
}

impl Bench {
    async fn start() -> Self {
        let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
        let bench = Self {
            cluster,
            reports: TempDir::new().unwrap(),
        };
        let mut boss = bench.superuser().await;
        boss.execute(
            "create role app login password 'x'; grant create on database poolproof to app",
        )
        .await
        .unwrap();
        bench
    }

    async fn superuser(&self) -> PgConnection {
        PgConnection::connect_with(&self.cluster.options())
            .await
            .unwrap()
    }

    async fn run(self, when: When, breaking: &Break) -> Observed {
        let (_trigger, interrupt) = Interrupt::new();
        let run = Run::plan(self.options(), interrupt).unwrap();
        if let (BeforeTheRun, Break::Sql(sql)) = (when, breaking) {
            self.superuser().await.execute(*sql).await.unwrap();
        }
        let mut stage = Box::pin(Stage::set_up(&run, &mut |_| {})).await.unwrap();
        if when == BeforeTheLoad {
            self.break_it(&stage, breaking).await;
        }
        let loaded = stage.keeping(async |stage| drive(&run, stage, &mut |_| {}).await);
        let loaded = Box::pin(loaded).await;
        let neighbour = match when {
            AfterTheLoad => self.break_it(&stage, breaking).await,
            BeforeTheRun | BeforeTheLoad => None,
        };
        let observed = Box::pin(observe(&run, &mut stage, &loaded)).await;
        drop(neighbour);
        Box::pin(stage.teardown()).await;
        self.cluster.stop().await.unwrap();
        observed
    }

    fn options(&self) -> RunOptions {
        let url = format!(
            "postgres://app:x@127.0.0.1:{}/poolproof",
            self.cluster.port()
        );
        options(&url, self.reports.path())
    }

    /// Returns the neighbour that holds the lock, where there is one.
    async fn break_it(&self, stage: &Stage, breaking: &Break) -> Option<PgConnection> {
        let mut boss = self.superuser().await;
        match breaking {
            Break::Sql(sql) => {
                let sql = sql.replace("{schema}", &stage.schema);
                boss.execute(AssertSqlSafe(sql)).await.unwrap();
                None
            }
            Break::Crash => {
                let mut victim = self.superuser().await;
                kill(Pid::from_raw(pid(&mut victim).await), Signal::SIGKILL).unwrap();
                // It is back when it lets somebody in.
                while PgConnection::connect_with(&self.cluster.options())
                    .await
                    .is_err()
                {
                    tokio::task::yield_now().await;
                }
                None
            }
            Break::Neighbour => Some(self.take_lock(&stage.schema, boss).await),
            Break::Proxy => {
                stage.proxies.delete(PROXY).await.unwrap();
                None
            }
        }
    }

    /// A neighbour waits for the lock, and the run's connection is ended.
    async fn take_lock(&self, schema: &str, mut boss: PgConnection) -> PgConnection {
        let mut neighbour = self.superuser().await;
        let waiting = pid(&mut neighbour).await;
        let lock = format!("select pg_advisory_lock(hashtextextended('{schema}', 0))");
        let mut taken = JoinSet::new();
        taken.spawn(async move {
            neighbour.execute(AssertSqlSafe(lock)).await.unwrap();
            neighbour
        });
        let waits = format!("select 1 from pg_locks where pid = {waiting} and not granted");
        while boss
            .fetch_optional(AssertSqlSafe(waits.clone()))
            .await
            .unwrap()
            .is_none()
        {
            tokio::task::yield_now().await;
        }
        boss.execute(END_CLAIMS).await.unwrap();
        taken.join_next().await.unwrap().unwrap()
    }
}

fn options(url: &str, reports: &Path) -> RunOptions {
    let url: DatabaseUrl = url.parse().unwrap();
    RunOptions {
        scenario: Scenario::parse("looks.toml", SCENARIO).unwrap(),
        postgres: PostgresChoice::Url(Box::new(url)),
        subject: SubjectKind::Planted(Bug::Lies),
        seed: 7,
        out: reports.to_owned(),
        remote: RemoteConsent::default(),
        replay: String::new(),
        notes: Vec::new(),
    }
}

async fn pid(connection: &mut PgConnection) -> i32 {
    let row = connection.fetch_one("select pg_backend_pid()").await;
    row.unwrap().get(0)
}
