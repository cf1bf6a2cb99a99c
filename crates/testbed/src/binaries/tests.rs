//! Searches in made-up places, with programs that are shell scripts.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A place for programs that the server's user can reach when the tests run as root.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn server(dir: &Path, answer: &str) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    for program in PROGRAMS {
        let path = dir.join(program);
        fs::write(&path, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir.to_path_buf()
}

fn find(search: &Search) -> Result<Binaries, FindError> {
    search.find(Account::for_servers().unwrap().as_ref())
}

#[test]
fn the_newest_of_all_places_is_used() {
    let root = place();
    let search = Search {
        chosen: None,
        places: vec![
            server(&root.path().join("a"), "postgres (PostgreSQL) 15.2"),
            server(&root.path().join("b"), "postgres (PostgreSQL) 15.18"),
            server(&root.path().join("c"), "postgres (PostgreSQL) 15.9"),
            root.path().join("absent"),
        ],
    };
    let found = find(&search).unwrap();
    assert_eq!(found.dir, root.path().join("b").canonicalize().unwrap());
    assert_eq!(
        found.version,
        Version {
            major: 15,
            minor: 18
        }
    );
}

#[test]
fn the_chosen_one_wins_over_a_newer_one() {
    let root = place();
    let old = server(&root.path().join("old"), "postgres (PostgreSQL) 14.1");
    let new = server(&root.path().join("new"), "postgres (PostgreSQL) 18.1");
    let search = Search {
        chosen: Some((old.clone(), PG_BIN_VARIABLE)),
        places: vec![new],
    };
    assert_eq!(find(&search).unwrap().dir, old.canonicalize().unwrap());
}

#[test]
fn a_chosen_one_that_is_of_no_use_is_an_error_although_another_is_there() {
    let root = place();
    let good = server(&root.path().join("good"), "postgres (PostgreSQL) 15.18");
    let search = Search {
        chosen: Some((root.path().join("nothing"), PG_BIN_VARIABLE)),
        places: vec![good],
    };
    let error = find(&search).unwrap_err();
    assert!(
        matches!(
            &error,
            FindError::Chosen {
                asked_by: PG_BIN_VARIABLE,
                source: Unusable::Incomplete {
                    program: "postgres"
                },
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn directories_that_do_not_count_are_listed_with_the_reason() {
    let root = place();
    let wrapper = server(&root.path().join("wrapper"), "postgres (PostgreSQL) 15.18");
    fs::remove_file(wrapper.join("pg_ctl")).unwrap();
    let foreign = server(&root.path().join("foreign"), "");
    fs::write(foreign.join("postgres"), "#!/nosuch/interpreter\n").unwrap();
    let ancient = server(&root.path().join("ancient"), "postgres (PostgreSQL) 9.6.24");
    let broken = server(&root.path().join("broken"), "oops");
    let search = Search {
        chosen: None,
        places: vec![wrapper, foreign, ancient, broken],
    };
    let error = find(&search).unwrap_err();
    let text = error.to_string();
    for part in [
        "wrapper does not count: it has no pg_ctl",
        "foreign does not count: its postgres could not be run: run it: No such file or directory",
        "ancient does not count: it is version 9.6, and 13 is the oldest that can be used",
        "broken does not count: its postgres answers \"oops\"",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_link_leads_to_the_directory_with_the_other_programs() {
    let root = place();
    let real = server(&root.path().join("real"), "postgres (PostgreSQL) 15.18");
    let links = root.path().join("links");
    fs::create_dir(&links).unwrap();
    for program in PROGRAMS {
        symlink(real.join(program), links.join(program)).unwrap();
    }
    // `initdb` finds its share directory beside the real file, so links alone would do here; a
    // lone link to `postgres` would not, and both lead to the same directory.
    let linked = fs::canonicalize(links.join("postgres")).unwrap();
    let search = Search {
        chosen: None,
        places: vec![linked.parent().unwrap().to_path_buf(), real.clone()],
    };
    assert_eq!(find(&search).unwrap().dir, real.canonicalize().unwrap());
}
