//! What a session leaves behind goes, what set-up made stays, and statements that leave nothing cost nothing.

use poolproof_pool::{Hooks, PgConn, Pool, ResetMode, Session, SessionConfig};
use sqlx::{Executor, Row, raw_sql};

use crate::support::{Bench, connector, one_connection};

/// What could be left behind, and nothing that set-up or sqlx have.
const LEFT: &str = "select concat_ws(', ', \
    (select string_agg(name, ' ') from pg_prepared_statements where from_sql), \
    (select string_agg(relname, ' ') from pg_class where relnamespace = pg_my_temp_schema()), \
    (select string_agg(proname, ' ') from pg_proc where pronamespace = pg_my_temp_schema()), \
    (select string_agg(name, ' ') from pg_cursors where is_holdable), \
    (select string_agg(locktype, ' ') from pg_locks where locktype = 'advisory' \
     and pid = pg_backend_pid()), \
    (select string_agg(c, ' ') from pg_listening_channels() as c), \
    nullif(current_user, 'poolproof'), nullif(current_setting('work_mem'), '4MB'))";

async fn left(session: &mut Session) -> String {
    session.fetch_simple_text(LEFT).await.unwrap().unwrap()
}

/// F29: each kind of statement that leaves something, in both modes; afterwards it is gone, and the connection
/// the same one unless no reset removes it.
#[tokio::test]
async fn f29_whatever_a_statement_leaves_behind_goes_or_its_connection_does() {
    for (name, reset) in [
        ("left_fast", ResetMode::Fast),
        ("left_clean", ResetMode::Clean),
    ] {
        let sessions = SessionConfig {
            reset,
            ..SessionConfig::default()
        };
        let bench = Bench::sessions(name, sessions).await;
        for (leave, named) in [
            ("create table pg_temp.x (a int)", "x"),
            ("create table \"pg_temp\".x (a int)", "x"),
            ("create temp view x as select 1", "x"),
            ("create temp sequence x", "x"),
            ("select 1 as a into temp x", "x"),
            (
                "create function pg_temp.f() returns int language sql as 'select 1'",
                "f",
            ),
            ("declare x cursor with hold for select 1", "x"),
            ("prepare x as select 1", "x"),
            ("prepare \"x;y\" as select 1", "x;y"),
            ("set session authorization pg_monitor", "pg_monitor"),
            ("set role pg_monitor", "pg_monitor"),
            ("set work_mem = '1MB'", "1MB"),
            (
                "do $$ begin perform pg_advisory_lock(7); end $$",
                "advisory",
            ),
            ("select pg_try_advisory_lock(7)", "advisory"),
        ] {
            let mut session = bench.pool.session().await.unwrap();
            session.execute(leave).await.unwrap();
            assert_eq!(left(&mut session).await, named, "{leave}");
            drop(session);
            let mut next = bench.pool.session().await.unwrap();
            assert_eq!(left(&mut next).await, "", "{leave}, {reset:?}");
        }
        assert_eq!(bench.pool.snapshot().opened_total, 1, "reset, not closed");
        for (times, leave) in ["load 'auto_explain'", "deallocate all", "discard all"]
            .iter()
            .enumerate()
        {
            let mut session = bench.pool.session().await.unwrap();
            session.fetch_one(sqlx::query("select 1")).await.unwrap();
            session.execute(*leave).await.unwrap();
            drop(session);
            let mut next = bench.pool.session().await.unwrap();
            next.fetch_one(sqlx::query("select 1")).await.expect(leave);
            assert_eq!(left(&mut next).await, "", "{leave}, {reset:?}");
            let opened = bench.pool.snapshot().opened_total;
            assert_eq!(opened, times as u64 + 2, "{leave}: closed");
        }
    }
}

/// A function that prepares something, which no look at a text can see.
#[tokio::test]
async fn f29_in_clean_mode_what_a_function_prepared_goes_and_what_sqlx_prepared_stays() {
    let sessions = SessionConfig {
        reset: ResetMode::Clean,
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("left_function", sessions).await;
    let create = "create or replace function left_prepare() returns void language plpgsql as \
                  $$ begin execute 'prepare mine as select 1'; end $$";
    bench.admin.execute(create).await.unwrap();
    let mut session = bench.pool.session().await.unwrap();
    session
        .fetch_one(sqlx::query("select 'kept'"))
        .await
        .unwrap();
    session.execute("select left_prepare()").await.unwrap();
    assert_eq!(left(&mut session).await, "mine");
    drop(session);
    let mut next = bench.pool.session().await.unwrap();
    assert_eq!(left(&mut next).await, "");
    let kept = "select count(*) from pg_prepared_statements where statement = 'select ''kept'''";
    let kept = next.fetch_simple_text(kept).await.unwrap();
    assert_eq!(kept.as_deref(), Some("1"));
}

/// A reset would be a message to the server, which moves the backend's `state_change`.
#[tokio::test]
async fn statements_that_leave_nothing_go_back_without_io() {
    let mut bench = Bench::single("left_nothing").await;
    let table = "create unique index on left_nothing (v); create table if not exists temp (v text)";
    bench.admin.execute(raw_sql(table)).await.unwrap();
    for sql in [
        "insert into left_nothing values ('a') on conflict do nothing",
        "insert into left_nothing values ('a') on conflict (v) do update set v = excluded.v",
        "update left_nothing set v = 'b'",
        "insert into temp values ('a')",
        "select temp.v from temp",
        "set constraints all deferred",
    ] {
        let mut session = bench.pool.session().await.unwrap();
        session.execute(sql).await.unwrap();
        drop(session);
        let now = bench.pool.snapshot();
        assert_eq!((now.idle, now.closing), (1, 0), "{sql}");
    }
}

/// The documented use of the hook, and what else one may make there.
#[tokio::test]
async fn what_the_connect_hook_set_up_lasts_as_long_as_the_connection() {
    let bench = Bench::single("left_set_up").await;
    let hooks = Hooks::<PgConn>::new().on_connect(|conn| {
        Box::pin(async move {
            let set_up = "set jit = off; set app.tenant = 'seven'; \
                          create temp table if not exists mine (v int); prepare mine as select 7";
            raw_sql(set_up).execute(conn.connection()).await?;
            Ok(())
        })
    });
    let options = bench.server.options().application_name("left_set_up");
    let connector = connector(options, SessionConfig::default());
    let pool = Pool::with_hooks(connector, one_connection(), hooks).unwrap();
    let made = async |session: &mut Session| {
        let query = "select concat_ws(' ', current_setting('jit'), current_setting('app.tenant'), \
                     to_regclass('pg_temp.mine'), current_setting('work_mem'), \
                     current_setting('application_name'), current_setting('TimeZone'))";
        let row = session.fetch_one(query).await.unwrap();
        let seven = session.fetch_one("execute mine").await.unwrap();
        (row.get::<String, _>(0), seven.get_unchecked::<i32, _>(0))
    };
    let expected = ("off seven mine 4MB left_set_up UTC".to_owned(), 7);
    for dirty in [
        "select 1",
        "set work_mem = '1MB'",
        "set jit = on",
        "reset all",
    ] {
        let mut session = pool.session().await.unwrap();
        assert_eq!(made(&mut session).await, expected, "before {dirty}");
        session.execute(dirty).await.unwrap();
        drop(session);
        let mut session = pool.session().await.unwrap();
        assert_eq!(made(&mut session).await, expected, "after {dirty}");
    }
    assert_eq!(pool.snapshot().opened_total, 1);
}

/// What is not set up again is not lent.
#[tokio::test]
async fn a_connection_that_cannot_be_set_up_again_is_closed() {
    let bench = Bench::single("left_once").await;
    let hooks = Hooks::<PgConn>::new().on_connect(|conn| {
        Box::pin(async move {
            let once = "do $$ begin if current_setting('poolproof.once', true) is not null then \
                        raise 'once'; end if; end $$; set poolproof.once = 1";
            raw_sql(once).execute(conn.connection()).await?;
            Ok(())
        })
    });
    let connector = connector(bench.server.options(), SessionConfig::default());
    let pool = Pool::with_hooks(connector, one_connection(), hooks).unwrap();
    let mut session = pool.session().await.unwrap();
    session.execute("set work_mem = '1MB'").await.unwrap();
    drop(session);
    drop(pool.session().await.unwrap());
    let now = pool.snapshot();
    assert_eq!((now.opened_total, now.closed_by.unfit), (2, 1));
}
