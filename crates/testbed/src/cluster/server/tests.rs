//! Finding a server's programs, and telling what keeps it from starting.

use super::*;

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
