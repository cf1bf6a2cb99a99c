//! Templates of the Postgres that is installed here, in a home of their own.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::binaries::Search;

struct Bench {
    _dir: tempfile::TempDir,
    home: Home,
    binaries: Binaries,
    account: Option<Account>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let account = Account::for_servers().unwrap();
        let home = Home::open(Some(&dir.path().join("home")), account.as_ref()).unwrap();
        let binaries = Search::here(None, &home.downloads())
            .find(account.as_ref())
            .unwrap();
        Self {
            _dir: dir,
            home,
            binaries,
            account,
        }
    }

    fn template(&self) -> Template<'_> {
        Template::new(&self.home, &self.binaries, self.account.as_ref())
    }

    fn copy(&self, name: &str) -> String {
        self.template()
            .copy_to(&self.home.path().join(name))
            .unwrap()
    }
}

#[test]
fn a_template_is_built_once_and_copied_whole() {
    let bench = Bench::new();
    let password = bench.copy("one");
    let built = fs::metadata(bench.template().path())
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(bench.copy("two"), password);
    let after = fs::metadata(bench.template().path())
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(built, after, "it was built twice");

    let version = fs::read_to_string(bench.home.path().join("two/PG_VERSION")).unwrap();
    assert_eq!(version.trim(), bench.binaries.version.major.to_string());
    assert_eq!(password.len(), 48);
    let secret = fs::metadata(bench.template().path().join("password")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
    let left: Vec<_> = fs::read_dir(bench.home.templates())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".build"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

/// A machine that loses power may keep the rename and lose contents; a killed build leaves its
/// directory.
#[test]
fn a_broken_template_is_built_again() {
    let bench = Bench::new();
    let first = bench.copy("one");
    let path = bench.template().path();

    let control = path.join("data/global/pg_control");
    fs::write(&control, "").unwrap();
    let second = bench.copy("two");
    assert_ne!(first, second);

    fs::remove_file(path.join("data/PG_VERSION")).unwrap();
    let third = bench.copy("three");
    assert_ne!(second, third);

    fs::remove_file(path.join("manifest.json")).unwrap();
    let leftover = bench
        .home
        .templates()
        .join(format!("{}-0000", bench.template().build_prefix()));
    fs::create_dir_all(leftover.join("data")).unwrap();
    let fourth = bench.copy("four");
    assert_ne!(third, fourth);
    assert!(!leftover.exists());
}

#[test]
fn neighbours_that_start_at_once_share_one_template() {
    let bench = Bench::new();
    let passwords: Vec<_> = std::thread::scope(|scope| {
        let bench = &bench;
        let copies: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|name| scope.spawn(move || bench.copy(name)))
            .collect();
        copies.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(passwords[0], passwords[1]);
    assert_eq!(passwords[0], passwords[2]);
}

#[test]
fn a_program_that_fails_is_quoted() {
    let bench = Bench::new();
    let fake = bench.home.path().join("fake");
    fs::create_dir(&fake).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let initdb = fake.join("initdb");
    fs::write(
        &initdb,
        "#!/bin/sh\necho 'initdb: error: no luck today'\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&initdb, fs::Permissions::from_mode(0o755)).unwrap();
    let binaries = Binaries {
        dir: fake,
        ..bench.binaries.clone()
    };
    let template = Template::new(&bench.home, &binaries, bench.account.as_ref());
    let error = template
        .copy_to(&bench.home.path().join("one"))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.ends_with("initdb says: initdb: error: no luck today"),
        "{text}"
    );
    assert!(!template.path().exists());
}
