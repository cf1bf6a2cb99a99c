//! Each look at the server is broken in turn, after a pool has lied. Whatever could not be seen makes
//! the run inconclusive, and a look that could be taken all the same finds the lie out. None passes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use poolproof_oracle::{Guarantee, GuaranteeStatus, Verdict};
use poolproof_subjects::{Bug, SubjectKind};
use poolproof_testbed::{Cluster, LocalConfig, PgBouncer, PoolMode};
use poolproof_url::DatabaseUrl;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};
use tokio::task::JoinSet;

use super::{Bench, ServerChoice};
use crate::drive::drive;
use crate::observe::observe;
use crate::stage::{PROXY, Stage};
use crate::{
    Evidence, Interrupt, Planned, PostgresChoice, RemoteConsent, RunError, Scenario, Trial,
};

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
            let evidence = House::start().await.run(case.1, &case.2).await;
            (case, evidence)
        })
        .buffer_unordered(4);
    while let Some(((name, when, _, verdict, void), evidence)) = runs.next().await {
        let judged = evidence.judge();
        let results = &judged.guarantees;
        assert_eq!(judged.verdict, verdict, "{name}: {results:#?}");
        let found: Vec<_> = results
            .iter()
            .filter(|result| matches!(result.status, GuaranteeStatus::Void(_)))
            .map(|result| result.guarantee)
            .collect();
        assert_eq!(found, void, "{name}: {results:#?}");
        // It says so when a connection of its own did not last, and only then.
        if verdict == Verdict::Fail && void.is_empty() {
            let notes = &evidence.notes;
            let reopened = notes.iter().any(|note| note.contains("opened it again"));
            assert_eq!(reopened, when == AfterTheLoad, "{name}: {notes:?}");
        }
        assert_eq!(evidence.ended.cut_short(), None, "{name}");
    }
}

/// Method: the first run loses the connection that holds its lock, and the second sweeps before the
/// first could take it again; the subject's connections live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_lost_its_lock_and_lives_is_not_swept_by_the_next() {
    let house = House::start().await;
    let bench = house.bench().await;
    let (first, second) = (trial(), trial());
    let mut stage = stage(&bench, &first).await;
    let mut boss = house.superuser().await;
    boss.execute(END_CLAIMS).await.unwrap();
    let neighbour = self::stage(&bench, &second).await;
    let schemas = "select count(*) from pg_namespace where nspname like 'poolproof\\_%'";
    let row = boss.fetch_one(schemas).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 2);

    let (_trigger, interrupt) = Interrupt::new();
    let loaded = stage.keeping(async |stage| drive(&first, stage, &mut |_| {}, &interrupt).await);
    let loaded = Box::pin(loaded).await;
    let observed = Box::pin(observe(&first, &mut stage, &loaded)).await;
    assert_eq!(observed.store.as_ref().err(), None);
    for stage in [stage, neighbour] {
        assert_eq!(Box::pin(stage.teardown()).await, Vec::<String>::new());
    }
    let row = boss.fetch_one(schemas).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
    house.cluster.stop().await.unwrap();
}

/// Goal: a bench serves any number of trials, and none leaves a trace on the next.
///
/// Method: ten trials of two seeds by turns on one server; what each came to is what the first of its
/// seed came to, and after each the server has nothing left of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_trials_on_one_server_leave_no_trace_on_each_other() {
    let house = House::start().await;
    let bench = house.bench().await;
    let mut boss = house.superuser().await;
    let (_trigger, interrupt) = Interrupt::new();
    let mut first = Vec::new();
    for nth in 0..10_usize {
        let trial = Trial {
            scenario: scenario(),
            subject: SubjectKind::Poolproof,
            seed: u64::from(nth % 2 == 1),
        };
        let trial = trial.plan().unwrap();
        let evidence = Box::pin(bench.run(&trial, &mut |_| {}, &interrupt)).await;
        let evidence = evidence.unwrap();
        let judged = evidence.judge();
        let statuses: Vec<_> = judged.guarantees.iter().map(|g| g.status.clone()).collect();
        let came = (
            trial.schedule_sha256.clone(),
            evidence.loaded.records.len(),
            judged.verdict,
            statuses,
        );
        assert_eq!(judged.verdict, Verdict::Pass, "{nth}: {:?}", judged.reasons);
        assert_eq!(evidence.notes, Vec::<String>::new());
        first.push(came);
        assert_eq!(first[nth], first[nth % 2], "{nth}");
        // A backend whose client has said goodbye ends in its own time.
        let gone = async { while anything_left(&mut boss).await {} };
        let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
        assert_eq!(gone, Ok(()), "{nth}");
    }
    assert_ne!(first[0].0, first[1].0);
    house.cluster.stop().await.unwrap();
}

/// Whether the server has anything of a trial: a schema, a connection, a lock.
async fn anything_left(boss: &mut PgConnection) -> bool {
    let left = "select exists (select from pg_namespace where nspname like 'poolproof\\_%') \
        or exists (select from pg_stat_activity where application_name like 'poolproof/%') \
        or exists (select from pg_locks where locktype = 'advisory')";
    boss.fetch_one(left).await.unwrap().get(0)
}

/// A pooler lends one session to several clients: what a run sets, locks or prepares in it would be
/// theirs, and its tables would be made, and stay, in `public`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_is_refused_before_anything_is_changed_in_its_sessions() {
    let cluster = Arc::new(Cluster::start(LocalConfig::default()).await.unwrap());
    let options = cluster.options();
    let mut boss = PgConnection::connect_with(&options).await.unwrap();
    let user = options.get_username();
    let protect = format!("alter role \"{user}\" set statement_timeout = '7s'");
    boss.execute(AssertSqlSafe(protect)).await.unwrap();
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let pooler = PgBouncer::start(Arc::clone(&cluster), mode).unwrap();
        let url: DatabaseUrl = pooler.options().to_url_lossy().as_str().parse().unwrap();
        let error = try_bench(&PostgresChoice::Url(Box::new(url.clone()))).await;
        let error = error.unwrap_err();
        assert!(matches!(error, RunError::Pooler { .. }), "{error:?}");
        let help = error.help().unwrap_or_default();
        assert!(help.contains("name the server's own host"), "{help}");
        let error = crate::check(&url).await.unwrap_err();
        assert!(
            matches!(error, crate::CheckError::Pooler { .. }),
            "{error:?}"
        );
        let mut other = PgConnection::connect_with(&pooler.options()).await.unwrap();
        let row = other.fetch_one(sqlx::raw_sql(SHARED)).await.unwrap();
        let left: (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(left, ("7s".to_owned(), 0, 0), "{mode:?}");
    }
    let made =
        "select count(*) from pg_class where relname = 'op_log' or relname like 'write_set%'";
    let row = boss.fetch_one(made).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

/// What others share of a session, and what a run might leave there.
const SHARED: &str = "select current_setting('statement_timeout'), \
    (select count(*) from pg_prepared_statements), \
    (select count(*) from pg_locks where locktype = 'advisory')";

/// A name alone proves nothing, and nobody is waited for who uses what a killed run left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_drops_what_bears_the_mark_of_a_run_and_is_not_in_use() {
    let house = House::start().await;
    let bench = house.bench().await;
    // A run that was killed: its schema stays.
    let killed = stage(&bench, &trial()).await;
    let left = killed.schema.clone();
    drop(killed);
    let mut boss = house.superuser().await;
    boss.execute(
        "create schema poolproof_20261129 authorization app; \
         create table poolproof_20261129.results as select 1 as precious",
    )
    .await
    .unwrap();
    let mut user = house.superuser().await;
    let using = format!("begin; insert into {left}.op_log (op) values (1)");
    user.execute(AssertSqlSafe(using)).await.unwrap();

    let second = stage(&bench, &trial()).await;
    let notes = second.notes();
    assert!(notes.iter().any(|note| note.contains("stays")), "{notes:?}");
    user.execute("commit").await.unwrap();
    let third = stage(&bench, &trial()).await;
    let dropped = format!("schema {left}, which a killed run had left, was dropped");
    assert_eq!(third.notes(), [dropped]);
    let precious = boss.fetch_one("select precious from poolproof_20261129.results");
    assert_eq!(precious.await.unwrap().get::<i32, _>(0), 1);
    for stage in [second, third] {
        assert_eq!(Box::pin(stage.teardown()).await, Vec::<String>::new());
    }
    house.cluster.stop().await.unwrap();
}

/// A server with a role that is no superuser, and which trials run as.
struct House {
    cluster: Cluster,
}

impl House {
    async fn start() -> Self {
        let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
        let house = Self { cluster };
        let mut boss = house.superuser().await;
        boss.execute(
            "create role app login password 'x'; grant create on database poolproof to app",
        )
        .await
        .unwrap();
        house
    }

    /// The bench on this server, for that role.
    async fn bench(&self) -> Bench {
        let port = self.cluster.port();
        bench(&format!("postgres://app:x@127.0.0.1:{port}/poolproof")).await
    }

    async fn superuser(&self) -> PgConnection {
        PgConnection::connect_with(&self.cluster.options())
            .await
            .unwrap()
    }

    async fn run(self, when: When, breaking: &Break) -> Evidence {
        let (_trigger, interrupt) = Interrupt::new();
        let (bench, trial) = (self.bench().await, trial());
        if let (BeforeTheRun, Break::Sql(sql)) = (when, breaking) {
            self.superuser().await.execute(*sql).await.unwrap();
        }
        let mut stage = stage(&bench, &trial).await;
        if when == BeforeTheLoad {
            self.break_it(&stage, breaking).await;
        }
        let loaded =
            stage.keeping(async |stage| drive(&trial, stage, &mut |_| {}, &interrupt).await);
        let loaded = Box::pin(loaded).await;
        let neighbour = match when {
            AfterTheLoad => self.break_it(&stage, breaking).await,
            BeforeTheRun | BeforeTheLoad => None,
        };
        let observed = Box::pin(observe(&trial, &mut stage, &loaded)).await;
        drop(neighbour);
        let evidence = Evidence::new(&trial, &stage, loaded, observed);
        Box::pin(stage.teardown()).await;
        self.cluster.stop().await.unwrap();
        evidence
    }

    /// Returns the neighbour that holds the lock, where there is one.
    async fn break_it(&self, stage: &Stage<'_>, breaking: &Break) -> Option<PgConnection> {
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

async fn bench(url: &str) -> Bench {
    let url: DatabaseUrl = url.parse().unwrap();
    try_bench(&PostgresChoice::Url(Box::new(url)))
        .await
        .unwrap()
}

async fn try_bench(postgres: &PostgresChoice) -> Result<Bench, RunError> {
    let (consent, scenario) = (RemoteConsent::default(), scenario());
    let (_trigger, interrupt) = Interrupt::new();
    let choice = ServerChoice {
        postgres,
        remote: &consent,
        scenario: &scenario,
        id: "",
    };
    Bench::start(choice, &mut |_| {}, &interrupt).await
}

async fn stage<'b>(bench: &'b Bench, trial: &Planned) -> Stage<'b> {
    let (_trigger, interrupt) = Interrupt::new();
    let stage = Box::pin(Stage::set_up(bench, trial, &mut |_| {}, &interrupt)).await;
    stage.unwrap()
}

fn scenario() -> Scenario {
    Scenario::parse("looks.toml", SCENARIO).unwrap()
}

fn trial() -> Planned {
    let trial = Trial {
        scenario: scenario(),
        subject: SubjectKind::Planted(Bug::Lies),
        seed: 7,
    };
    trial.plan().unwrap()
}

async fn pid(connection: &mut PgConnection) -> i32 {
    let row = connection.fetch_one("select pg_backend_pid()").await;
    row.unwrap().get(0)
}
