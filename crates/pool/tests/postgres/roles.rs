//! Roles that may do little, and roles that connections begin with.

use std::num::NonZeroU64;
use std::time::Duration;

use poolproof_pool::{
    Backend, Categorized, Config, InDoubt, PgConnector, Pool, QueryError, Resolution, ResolveError,
    ServerIdentity, Transaction, TransactionOptions,
};
use poolproof_testbed::LocalConfig;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection};

use crate::support::{PATIENCE, Server, one_connection, pool_on};

/// Long enough for anything but a hang.
const WITHIN: Duration = Duration::from_secs(30);

/// A login role whose connections begin with another one: so that several own the same tables.
const APP: &str = "create role app_rw; create role plain login password 'plain' in role app_rw";

/// Goal: the role that a connection begins with is there at first and after every reset, and costs nothing of
/// what the pool knows and can do.
#[tokio::test]
async fn a_connection_may_begin_with_another_role_than_the_one_that_logs_in() {
    let (rig, admin, options) =
        with_roles(&format!("{APP}; alter role plain set role = app_rw")).await;
    begins_with_another_role(&rig, admin, options).await;
}

direct! { "start-up options do not pass a pooler";
/// The same, where the client says so.
#[tokio::test]
async fn a_connection_may_begin_with_a_role_of_the_clients_choice() {
    let (rig, admin, options) = with_roles(APP).await;
    let options = options.options([("role", "app_rw")]);
    begins_with_another_role(&rig, admin, options).await;
}
}

async fn begins_with_another_role(
    rig: &Server,
    mut admin: PgConnection,
    options: PgConnectOptions,
) {
    let pool = pool_on(options, one_connection());
    let mut session = pool.session().await.unwrap();
    let backend = session.backend();
    assert_eq!(role_of(&mut session).await, "app_rw");
    session.execute("set role none").await.unwrap();
    drop(session);
    let mut session = pool.session().await.unwrap();
    assert_eq!(session.backend(), backend, "reset, and not closed");
    assert_eq!(role_of(&mut session).await, "app_rw");
    drop(session);
    let server = pool.acquire().await.unwrap().get().server();
    assert_eq!(server, server_of(rig).await);

    let mut session = pool.session().await.unwrap();
    let sleep = session.execute("select pg_sleep(600)");
    tokio::select! {
        ended = sleep => panic!("{ended:?}"),
        () = until_asleep(&mut admin, backend.pid) => {}
    }
    drop(session);
    // Comes after the slot was freed.
    drop(pool.session().await.unwrap());
    assert!(!is_there(&mut admin, backend.pid).await, "F19");
}

async fn role_of(session: &mut poolproof_pool::Session) -> String {
    let role = session.fetch_simple_text("select current_user").await;
    role.unwrap().unwrap()
}

async fn is_there(admin: &mut PgConnection, pid: i32) -> bool {
    let query = sqlx::query("select 1 from pg_stat_activity where pid = $1");
    let found = admin.fetch_optional(query.bind(pid)).await;
    found.unwrap().is_some()
}

async fn until_asleep(admin: &mut PgConnection, pid: i32) {
    let query = "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";
    let asleep = async {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        while {
            let found = admin.fetch_optional(sqlx::query(query).bind(pid)).await;
            found.unwrap().is_none()
        } {
            pause.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, asleep).await.unwrap();
}

/// The server hides from other roles when a backend was started. Goal: what cannot be seen is not taken for
/// gone, and what may be a stranger is not ended.
#[tokio::test]
async fn a_role_that_may_not_see_the_backend_does_not_take_it_for_gone() {
    let (rig, plain) = with_plain_role("grant pg_signal_backend to plain").await;
    let owner = pool_on(rig.options(), Config::default());
    let in_doubt = InDoubt {
        backend: owner.session().await.unwrap().backend(),
        xid: None,
        server: server_of(&rig).await,
        is_pooled: false,
    };
    let pid = in_doubt.backend.pid;
    for error in [
        in_doubt.fence(&plain, WITHIN).await.unwrap_err(),
        in_doubt.resolve(&plain, WITHIN).await.unwrap_err(),
    ] {
        assert!(
            matches!(error, ResolveError::Hidden { pid: hidden } if hidden == pid),
            "{error:?}"
        );
    }
    let mut session = owner.session().await.unwrap();
    session.execute("select 1").await.unwrap();
    assert_eq!(session.backend(), in_doubt.backend);
}

/// What the server says of an id whose transaction has ended is final, whoever is there.
#[tokio::test]
async fn a_role_that_may_not_see_the_backend_can_read_an_outcome_by_its_id() {
    let (rig, plain) = with_plain_role("create table t (v int)").await;
    let owner = pool_on(rig.options(), one_connection());
    let mut session = owner.session().await.unwrap();
    let with_xid = TransactionOptions {
        with_xid: true,
        ..TransactionOptions::default()
    };
    let committed = session.transaction_with(&with_xid, async |tx: &mut Transaction<'_>| {
        let query = "insert into t values (1) returning xmin::text::int8";
        let row = tx.fetch_one(query).await?;
        Ok::<i64, QueryError>(sqlx::Row::get(&row, 0))
    });
    let xid = committed.await.unwrap().unsigned_abs();
    let in_doubt = InDoubt {
        backend: session.backend(),
        xid: NonZeroU64::new(xid),
        server: server_of(&rig).await,
        is_pooled: false,
    };
    let resolution = in_doubt.resolve(&plain, WITHIN).await.unwrap();
    assert_eq!(resolution, Resolution::Committed);
    session.execute("select 1").await.unwrap();
}

/// A process id is used again, by whoever comes. Goal: another role's process is not taken for ours.
#[tokio::test]
async fn a_process_of_another_role_is_not_the_backend() {
    let (rig, plain) = with_plain_role("grant pg_signal_backend to plain").await;
    let own = plain.session().await.unwrap().backend();
    let owner = pool_on(rig.options(), one_connection());
    let mut session = owner.session().await.unwrap();
    let in_doubt = InDoubt {
        backend: Backend {
            pid: session.backend().pid,
            ..own
        },
        xid: None,
        server: server_of(&rig).await,
        is_pooled: false,
    };
    in_doubt.fence(&plain, WITHIN).await.unwrap();
    session.execute("select 1").await.unwrap();
}

/// Goal: what asking again cannot change is told at once, and not at the deadline; and no refusal is taken
/// for an answer.
#[tokio::test]
async fn a_server_that_refuses_is_not_asked_again() {
    for function in ["pg_terminate_backend", "pg_xact_status"] {
        let revoke = format!("revoke execute on function {function} from public");
        let (rig, plain) = with_plain_role(&revoke).await;
        let in_doubt = InDoubt {
            backend: plain.session().await.unwrap().backend(),
            xid: NonZeroU64::new(3),
            server: server_of(&rig).await,
            is_pooled: false,
        };
        let error = in_doubt.resolve(&plain, WITHIN).await.unwrap_err();
        let ResolveError::Refused(cause) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(cause.sqlstate().as_deref(), Some("42501"), "{cause}");
        assert!(cause.to_string().contains(function), "{cause}");
    }
}

/// A service may lock away which server it is. That costs the resolving of commits, and nothing else; the
/// server is asked and refuses once, and not for every connection.
#[tokio::test]
async fn a_user_who_may_not_ask_which_server_it_is_connects_all_the_same() {
    let revoke = "revoke execute on function pg_control_system() from public";
    let (rig, pool) = with_plain_role(revoke).await;
    let leases = [
        pool.acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
    ];
    assert_eq!(
        leases.each_ref().map(|lease| lease.get().server()),
        [None; 3]
    );
    let log = rig.log();
    let refusals = log.matches("denied for function pg_control_system").count();
    assert_eq!(refusals, 1, "{log}");
}

/// What is not a refusal may be gone the next time, and must not cost the knowledge of all connections.
#[tokio::test]
async fn a_server_that_fails_to_say_which_one_it_is_is_asked_again() {
    let fails_at_first = "create schema first; create sequence first.calls; \
         grant usage on schema first to plain; grant usage on sequence first.calls to plain; \
         create function first.pg_control_system(out system_identifier int8) language plpgsql as \
         $$ begin if nextval('first.calls') = 1 then raise 'not now'; end if; \
         system_identifier = 7; end $$; \
         alter role plain set search_path = first, pg_catalog";
    let (_rig, pool) = with_plain_role(fails_at_first).await;
    let lease = pool.acquire().await.unwrap();
    let system = lease.get().server().map(|server| server.system);
    assert_eq!(system, Some(7));
}

/// A server with a role that may do little, a pool of which is returned.
async fn with_plain_role(grants: &str) -> (Server, Pool<PgConnector>) {
    let role = format!("create role plain login password 'plain'; {grants}");
    let (rig, _, options) = with_roles(&role).await;
    (rig, pool_on(options, Config::default()))
}

/// A server with these roles, and how to be `plain` there.
async fn with_roles(roles: &str) -> (Server, PgConnection, PgConnectOptions) {
    let rig = Server::start(LocalConfig::default()).await;
    let mut admin = rig.direct().connect().await.unwrap();
    let roles = sqlx::raw_sql(AssertSqlSafe(roles.to_owned()));
    admin.execute(roles).await.unwrap();
    let options = rig.options().username("plain").password("plain");
    (rig, admin, options)
}

pub(crate) async fn server_of(server: &Server) -> Option<ServerIdentity> {
    let pool = pool_on(server.options(), one_connection());
    let lease = pool.acquire().await.unwrap();
    lease.get().server()
}
