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

#[test]
fn what_stays_behind_on_the_session_is_seen() {
    for sql in [
        "set statement_timeout = 1",
        "SET SESSION AUTHORIZATION x",
        "reset all",
        "select pg_advisory_lock(1)",
        "select set_config('a.b', 'c', false)",
        "create temp table t (x int)",
        "select * into temporary t from s",
        "declare c cursor with hold for select 1",
        "prepare p as select 1",
        "select 1; set x.y = 'z'",
        "do $$ begin perform 1; end $$",
    ] {
        assert_eq!(effect(sql), Effect::Residue, "{sql}");
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

#[test]
fn what_makes_the_server_forget_statements_is_seen() {
    for sql in [
        "discard all",
        "DEALLOCATE x",
        "set a = 1; deallocate all; select 1; set a = 2",
    ] {
        assert_eq!(effect(sql), Effect::Forgets, "{sql}");
    }
    assert_eq!(effect("select 1 as deallocate"), Effect::None);
}
