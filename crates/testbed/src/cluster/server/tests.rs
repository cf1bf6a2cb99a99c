//! How a server's last words are understood.

use super::*;

#[test]
fn a_refused_setting_is_told_in_the_servers_words() {
    let log = "2026-01-01 00:00:00.000 UTC [1] LOG:  unrecognized configuration parameter \
               \"max_conections\" in file \"/x/postgresql.conf\" line 820\n\
               2026-01-01 00:00:00.000 UTC [1] LOG:  invalid value for parameter \"fsync\": \"maybe\"\n\
               2026-01-01 00:00:00.000 UTC [1] FATAL:  configuration file \"/x/postgresql.conf\" \
               contains errors\n";
    assert_eq!(
        refused_setting(log).unwrap(),
        "unrecognized configuration parameter \"max_conections\"; \
         invalid value for parameter \"fsync\": \"maybe\""
    );
    assert_eq!(refused_setting("[1] FATAL:  out of luck\n"), None);
}

#[test]
fn the_tail_of_a_log_is_its_last_lines() {
    let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let tail = tail(&log);
    assert!(tail.starts_with("line 80\n"), "{tail}");
    assert!(tail.ends_with("line 99"), "{tail}");
    assert_eq!(super::tail(""), "");
}

#[test]
fn run_ids_are_names_of_directories_and_nothing_more() {
    for good in ["r1", "a-b_C", &"x".repeat(40)] {
        check_run_id(good).unwrap();
    }
    for bad in ["", "..", "a/b", "a b", "ä", &"x".repeat(41)] {
        let error = check_run_id(bad).unwrap_err();
        assert!(matches!(error, StartError::RunId { .. }), "{bad}");
    }
}
