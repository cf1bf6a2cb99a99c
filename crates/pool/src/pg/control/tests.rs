//! Which texts do what, and what is shown of them.

use super::*;

#[path = "../../../../../fuzz/short.rs"]
mod short;
#[path = "../../../../../fuzz/properties/statement.rs"]
mod statement;

#[test]
fn whatever_is_sent_is_looked_at_in_the_same_way() {
    let words = [
        "begin",
        "commit",
        "end",
        "set ",
        "local",
        "prepare ",
        "transaction",
        "create ",
        "atomic",
        "case",
        "temp",
        "on commit drop",
        "pg_temp.",
        "with hold",
        "do",
        "e'",
        "E'",
        "$q$",
        "$1",
        "x'",
        "u&'",
        "--\r",
        "/*/*",
        "select ",
    ];
    short::fuzz("statement", 20_000, &words, statement::check);
}

#[test]
fn every_way_to_control_a_transaction_is_seen() {
    for (sql, keyword) in [
        ("BEGIN", "BEGIN"),
        ("begin;", "BEGIN"),
        ("  \n\tStArT TRANSACTION", "START"),
        ("COMMIT", "COMMIT"),
        ("end", "END"),
        ("rollback to savepoint x", "ROLLBACK"),
        ("abort", "ABORT"),
        ("savepoint s", "SAVEPOINT"),
        ("RELEASE s", "RELEASE"),
        ("commit prepared 'x'", "COMMIT"),
        ("prepare transaction 'x'", "PREPARE TRANSACTION"),
        ("-- a comment\ncommit", "COMMIT"),
        ("-- a comment\rcommit", "COMMIT"),
        ("/* a /* nested */ comment */ commit", "COMMIT"),
        ("/**/commit", "COMMIT"),
        ("/* abc/**/;rollback*/; commit", "COMMIT"),
        ("/* ab * */; commit", "COMMIT"),
        ("select 1; commit", "COMMIT"),
        ("select 1;;commit", "COMMIT"),
        ("select ';'; rollback; begin", "ROLLBACK"),
        ("select 'it''s'; commit", "COMMIT"),
        (r"select E'\''; commit", "COMMIT"),
        (r"select '\'; commit", "COMMIT"),
        ("select $$;$$; commit", "COMMIT"),
        ("select $a$ $b$ ; $a$; commit", "COMMIT"),
        ("select $1$; commit $1$", "COMMIT"),
        ("select $a b$; commit $a b$", "COMMIT"),
        ("select \"a;\"\"b\"; commit", "COMMIT"),
        ("select case when true then 1 end; commit", "COMMIT"),
        ("create table t (x int); commit", "COMMIT"),
        ("create table atomic (begin int); commit", "COMMIT"),
        ("select begin atomic; commit", "COMMIT"),
        (
            "create function f() returns int begin atomic select case when true then 1 end; \
             end; commit",
            "COMMIT",
        ),
    ] {
        assert_eq!(effect(sql), Effect::Control(keyword), "{sql}");
    }
}

#[test]
fn ordinary_statements_pass_even_with_such_words_in_them() {
    for sql in [
        "",
        ";",
        "select 1",
        "select 'begin; commit'",
        "select e'it\\'s; commit'",
        "select $$; commit; $$",
        "select $1; select $2",
        "insert into t (\"begin\") values ('; rollback')",
        "select 1 -- ; commit",
        "select 1 /* ; commit */",
        "select 1 /* a * b / c ; commit */",
        "select begin, commit from rollback",
        "update t set x = case when y then 1 else 2 end",
        "create function f() returns int begin atomic select 1; select 2; end",
        "set local statement_timeout = 1",
        "set constraints all deferred",
        "set transaction isolation level serializable",
        "select pg_advisory_xact_lock(1)",
        "select 'ä' as \"ö\", ü from t",
        "select 1 /* never closed",
        "select 'never closed ; commit",
    ] {
        assert_eq!(effect(sql), Effect::None, "{sql}");
    }
}

#[test]
fn an_outline_shows_neither_values_nor_comments() {
    for (sql, shown) in [
        ("", ""),
        ("select 1", "select ?"),
        (
            "insert into \"T a\" values ('s3cret', $1, -17.5e3, E's\\'3', $$s3$$, x'1f')",
            "insert into \"T a\" values ( ? , ? , - ? , ? , ? , x ? )",
        ),
        (
            "select /* s3cret */ a.b -- s3cret\n from t where c = 's3''cret'; commit",
            "select a . b from t where c = ? ? ; commit",
        ),
        ("select 's3cret was cut", "select ?"),
        ("select $tag$s3cret", "select ?"),
        ("select äöü from ß", "select äöü from ß"),
    ] {
        assert_eq!(outline(sql), shown, "{sql}");
    }
}

/// Statements count and not words: the same words elsewhere leave nothing.
#[test]
fn what_stays_behind_on_the_session_is_seen() {
    for (sql, word) in [
        ("set statement_timeout = 1", "SET"),
        ("SET SESSION AUTHORIZATION x", "SET"),
        (
            "set session characteristics as transaction read only",
            "SET",
        ),
        ("reset all", "RESET"),
        ("select pg_advisory_lock(1)", "PG_ADVISORY_LOCK"),
        ("select pg_try_advisory_lock (1)", "PG_TRY_ADVISORY_LOCK"),
        ("select set_config('a.b', 'c', false)", "SET_CONFIG"),
        ("create temp table t (x int)", "TEMPORARY"),
        ("create local temporary table t (x int)", "TEMPORARY"),
        ("create or replace temp view v as select 1", "TEMPORARY"),
        ("create temp sequence s", "TEMPORARY"),
        (
            "explain analyze create temp table t as select 1",
            "TEMPORARY",
        ),
        (
            "create temp table t (x int) on commit delete rows",
            "TEMPORARY",
        ),
        ("create table pg_temp.t (x int)", "TEMPORARY"),
        ("create table \"pg_temp\".t (x int)", "TEMPORARY"),
        (
            "create function pg_temp.f() returns int language sql as 'select 1'",
            "TEMPORARY",
        ),
        ("alter table t set schema pg_temp", "TEMPORARY"),
        ("select * into temporary t from s", "TEMPORARY"),
        (
            "with a as (select 1) select * into temp t from a",
            "TEMPORARY",
        ),
        ("declare c cursor with hold for select 1", "WITH HOLD"),
        ("prepare p as select 1", "PREPARE"),
        ("select 1; set x.y = 'z'", "SET"),
        ("set x.y = 'z'; select 1", "SET"),
        ("do $$ begin perform 1; end $$", "DO"),
    ] {
        assert_eq!(effect(sql), Effect::Residue(word), "{sql}");
    }
    for (sql, keyword) in [
        ("load 'auto_explain'", "LOAD"),
        ("deallocate all", "DEALLOCATE"),
        ("discard all", "DISCARD"),
        ("discard plans; set x.y = 'z'", "DISCARD"),
        ("set x.y = 'z'; discard plans", "DISCARD"),
    ] {
        assert_eq!(effect(sql), Effect::Indelible(keyword), "{sql}");
    }
}

#[test]
fn the_same_words_elsewhere_leave_nothing_behind() {
    for sql in [
        "insert into t values (1) on conflict do nothing",
        "insert into t values (1) on conflict (x) do update set x = 2",
        "merge into temp using s on true when matched then do nothing",
        "insert into temp values (1)",
        "update t set load = 1, listen = 2, declare = 3, prepare = 4",
        "select temp, temporary, t.temp from weather where \"do\" and do.it",
        "create table t (temp float, set int)",
        "create index on weather (temp)",
        "create rule r as on insert to t do instead nothing",
        "create function f() returns int language sql set search_path = x as 'select 1'",
        "alter role x set jit = off",
        "create temp table t on commit drop as select 1",
        "create temporary table t (x int) on commit drop",
        "declare c cursor for select 1",
        "declare c cursor without hold for select 1",
        "lock table t",
        "unlisten *",
        "notify x",
        "select currval('s'), nextval('s')",
        "select 'pg_temp.x', 'set_config'",
        "comment on table t is 'temp'",
        "set local x.y = 'z'",
    ] {
        assert_eq!(effect(sql), Effect::None, "{sql}");
    }
}

#[test]
fn listening_and_copying_with_the_client_are_seen_and_nothing_like_them() {
    for sql in ["listen x", "select 1; LISTEN x", "set a = 1; listen x"] {
        assert_eq!(effect(sql), Effect::Listen, "{sql}");
    }
    for sql in [
        "copy t from stdin",
        "COPY t (a, b) FROM STDIN WITH CSV",
        "copy (select 1) to stdout",
        "select 1; copy t to stdout",
    ] {
        assert_eq!(effect(sql), Effect::ClientCopy, "{sql}");
    }
    for sql in [
        "unlisten x",
        "notify listen",
        "select listen from t",
        "copy t from '/stdin'",
        "copy t from program 'cat stdin'",
        "select 1 as copy, 2 as stdin",
        "copy t from 'x'; select stdin from t",
    ] {
        assert_eq!(effect(sql), Effect::None, "{sql}");
    }
}
