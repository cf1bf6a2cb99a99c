//! How a server's last words are understood.

use super::*;

#[test]
fn a_refused_setting_is_told_in_the_servers_words() {
    let log = "2026-01-01 00:00:00.000 UTC [1] LOG:  unrecognized configuration parameter \
               \"max_conections\" in file \"/x/postgresql.conf\" line 820\n\
               2026-01-01 00:00:00.000 UTC [1] LOG:  invalid value for parameter \"TimeZone\": \"x\"\n\
               2026-01-01 00:00:00.000 UTC [1] FATAL:  configuration file \"/x/postgresql.conf\" \
               contains errors\n";
    let refused = |name: &str, message: &str| RefusedSetting {
        name: name.to_owned(),
        message: message.to_owned(),
    };
    let none = BTreeMap::new();
    assert_eq!(
        refused_settings(log, &none),
        [
            refused(
                "max_conections",
                "unrecognized configuration parameter \"max_conections\""
            ),
            refused(
                "timezone",
                "invalid value for parameter \"TimeZone\": \"x\""
            ),
        ]
    );
    assert_eq!(refused_settings("[1] FATAL:  out of luck\n", &none), []);
}

#[test]
fn a_setting_that_does_not_go_with_the_others_is_blamed_by_its_name_or_value() {
    let chosen = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let log =
        "postgres: superuser_reserved_connections (3) must be less than max_connections (2)\n";
    assert_eq!(
        refused_settings(log, &chosen("max_connections", "2")).len(),
        1
    );
    // A part of another setting's name.
    assert_eq!(refused_settings(log, &chosen("connections", "2")), []);
    let log = "[1] FATAL:  could not access file \"nosuch\": No such file or directory\n";
    let refused = refused_settings(log, &chosen("shared_preload_libraries", "nosuch"));
    assert_eq!(refused[0].name, "shared_preload_libraries");
    assert_eq!(refused_settings(log, &chosen("fsync", "off")), []);
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

#[test]
fn without_a_postgres_the_error_says_what_was_tried_and_what_to_install() {
    let refused = || {
        Err(DownloadError::Status {
            url: "https://example.org/postgresql.tar.gz".into(),
            status: 404,
        })
    };
    let error = binaries(&Search::default(), None, refused).unwrap_err();
    assert_eq!(
        error.to_string(),
        "start a private Postgres: failed to find a Postgres server on this machine, \
         and then to download one"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        source,
        "download https://example.org/postgresql.tar.gz: the server answers 404"
    );
    assert_eq!(error.help(), Some(crate::install_hint()));
}

#[test]
fn a_chosen_postgres_that_is_of_no_use_is_not_replaced_by_a_download() {
    let search = Search {
        chosen: Some(("/nowhere".into(), crate::PG_BIN_VARIABLE)),
        places: Vec::new(),
    };
    let error = binaries(&search, None, || panic!("it was downloaded")).unwrap_err();
    assert!(matches!(error, StartError::Find(_)), "{error:?}");
    assert_eq!(
        StartError::Find(FindError::None {
            rejected: Vec::new()
        })
        .to_string(),
        "start a private Postgres"
    );
}

#[test]
fn a_full_disk_is_told_apart_from_other_trouble() {
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let error = StartError::files("/x".into(), full());
    assert!(matches!(error, StartError::DiskFull { .. }), "{error:?}");
    let other = StartError::files("/x".into(), io::ErrorKind::PermissionDenied.into());
    assert!(matches!(other, StartError::Files { .. }), "{other:?}");

    let copy = crate::TemplateError::Files {
        path: "/x".into(),
        source: full(),
    };
    let error = StartError::template("/x".into(), copy);
    assert!(matches!(error, StartError::DiskFull { .. }), "{error:?}");
    let initdb = crate::TemplateError::Failed {
        program: "initdb".into(),
        output: "initdb: error: could not write to file: No space left on device".into(),
    };
    let error = StartError::template("/x".into(), initdb);
    assert!(matches!(error, StartError::DiskFull { .. }), "{error:?}");
}
