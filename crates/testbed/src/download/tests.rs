//! Downloads from a local server that mimics the layout of the releases.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::*;
use crate::binaries::Search;
use crate::{Admin, Cluster, LocalConfig};

/// What the server answers to one path.
#[derive(Clone)]
enum Answer {
    File(Vec<u8>),
    /// Announces all and closes the connection half-way.
    Half(Vec<u8>),
}

/// A file server on loopback. Its thread ends with the test process.
struct Releases {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Releases {
    fn serve(files: BTreeMap<String, Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request = lines.next().unwrap().unwrap();
                while lines
                    .next()
                    .is_some_and(|line| line.is_ok_and(|it| !it.is_empty()))
                {}
                let path = request.split(' ').nth(1).unwrap().to_owned();
                log.lock().unwrap().push(path.clone());
                let (status, length, body) = match files.get(&path) {
                    Some(Answer::File(body)) => ("200 OK", body.len(), &body[..]),
                    Some(Answer::Half(body)) => ("200 OK", body.len(), &body[..body.len() / 2]),
                    None => ("404 Not Found", 0, &[][..]),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                // A client that gave up is its own test's to notice.
                stream.write_all(head.as_bytes()).ok();
                stream.write_all(body).ok();
            }
        });
        Self {
            url: format!("http://{address}/{{version}}/postgresql-{{version}}-{{target}}.tar.gz"),
            asked,
        }
    }

    /// Serves an archive under the name for this machine, with its checksum.
    fn with(archive: Vec<u8>) -> Self {
        let sum = random::to_hex(&Sha256::digest(&archive));
        Self::serve(BTreeMap::from([
            (path(), Answer::File(archive)),
            (
                format!("{}.sha256", path()),
                Answer::File(format!("{sum}  {}\n", name()).into_bytes()),
            ),
        ]))
    }

    fn archive_requests(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|path| path.ends_with(".gz")).count()
    }
}

fn name() -> String {
    format!("postgresql-{DOWNLOAD_VERSION}-{}.tar.gz", target().unwrap())
}

fn path() -> String {
    format!("/{DOWNLOAD_VERSION}/{}", name())
}

/// An archive with the given entries: path, kind, mode, and contents or link target.
fn archive(entries: &[(&str, EntryType, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, kind, mode, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        // By hand: the builder would refuse the paths that a hostile archive has.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        let body = if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            ""
        } else {
            *content
        };
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// A tree whose programs are the installed ones, so that it really runs.
fn working() -> Vec<u8> {
    let account = Account::for_servers().unwrap();
    let installed = Search::here(None, Path::new("/nonexistent"))
        .find(account.as_ref())
        .unwrap();
    let script = |program: &str| {
        let path = installed.dir.join(program);
        format!("#!/bin/sh\nexec {} \"$@\"\n", path.display())
    };
    archive(&[
        ("top/", EntryType::Directory, 0o755, ""),
        ("top/bin/", EntryType::Directory, 0o755, ""),
        (
            "top/bin/postgres",
            EntryType::Regular,
            0o755,
            &script("postgres"),
        ),
        (
            "top/bin/initdb",
            EntryType::Regular,
            0o755,
            &script("initdb"),
        ),
        (
            "top/bin/pg_ctl",
            EntryType::Regular,
            0o700,
            &script("pg_ctl"),
        ),
        ("top/lib/libpq.so.5.17", EntryType::Regular, 0o644, "x"),
        (
            "top/lib/libpq.so.5",
            EntryType::Symlink,
            0o777,
            "libpq.so.5.17",
        ),
        (
            "top/lib/libpq.so",
            EntryType::Link,
            0o644,
            "top/lib/libpq.so.5.17",
        ),
    ])
}

struct Bench {
    _dir: tempfile::TempDir,
    home: Home,
    account: Option<Account>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let account = Account::for_servers().unwrap();
        let home = Home::open(Some(&dir.path().join("home")), account.as_ref()).unwrap();
        Self {
            _dir: dir,
            home,
            account,
        }
    }

    fn fetch(&self, releases: &Releases) -> Result<Binaries, DownloadError> {
        fetch_from(&releases.url, &self.home, self.account.as_ref())
    }

    /// What is in the directory for downloads, lock files aside.
    fn kept(&self) -> Vec<String> {
        fs::read_dir(self.home.downloads())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect()
    }
}

#[tokio::test]
async fn a_downloaded_postgres_runs_a_cluster() {
    let bench = Bench::new();
    let found = bench.fetch(&Releases::with(working())).unwrap();
    assert!(found.dir.starts_with(bench.home.downloads()));
    let link = fs::read_link(found.dir.join("../lib/libpq.so.5")).unwrap();
    assert_eq!(link, Path::new("libpq.so.5.17"));
    assert_eq!(fs::read(found.dir.join("../lib/libpq.so")).unwrap(), b"x");

    // The next search finds it without being told.
    let search = Search {
        chosen: None,
        places: Search::here(None, &bench.home.downloads())
            .places
            .into_iter()
            .filter(|place| place.starts_with(bench.home.path()))
            .collect(),
    };
    assert_eq!(search.find(bench.account.as_ref()).unwrap(), found);

    let cluster = Cluster::start(LocalConfig {
        home: Some(bench.home.path().to_path_buf()),
        bin_dir: Some(found.dir),
        ..LocalConfig::default()
    })
    .await
    .unwrap();
    let mut admin = Admin::connect(cluster.options()).await.unwrap();
    assert_eq!(admin.server_info().await.unwrap().max_connections, 100);
    cluster.stop().await.unwrap();
}

#[test]
fn it_is_downloaded_once_however_many_ask() {
    let bench = Bench::new();
    let releases = Releases::with(working());
    std::thread::scope(|scope| {
        for _neighbour in 0..3 {
            scope.spawn(|| bench.fetch(&releases).unwrap());
        }
    });
    bench.fetch(&releases).unwrap();
    assert_eq!(releases.archive_requests(), 1);
    assert_eq!(bench.kept().len(), 1);
}

#[test]
fn what_is_not_there_is_named_by_its_address() {
    let bench = Bench::new();
    let missing = bench.fetch(&Releases::serve(BTreeMap::new())).unwrap_err();
    let DownloadError::Status { url, status: 404 } = &missing else {
        panic!("{missing:?}");
    };
    assert!(url.ends_with(&format!("{}.sha256", path())), "{url}");

    let sum = Answer::File(vec![b'0'; 64]);
    let only_sum = BTreeMap::from([(format!("{}.sha256", path()), sum)]);
    let missing = bench.fetch(&Releases::serve(only_sum)).unwrap_err();
    let DownloadError::Status { url, status: 404 } = &missing else {
        panic!("{missing:?}");
    };
    assert!(url.ends_with(&path()), "{url}");
    assert_eq!(bench.kept(), Vec::<String>::new());
}

#[test]
fn a_server_that_is_not_there_is_named_too() {
    let bench = Bench::new();
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{port}/{{version}}-{{target}}");
    let error = fetch_from(&url, &bench.home, bench.account.as_ref()).unwrap_err();
    assert!(matches!(error, DownloadError::Http { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with(&format!("download http://{port}/17")),
        "{error}"
    );
    assert_eq!(bench.kept(), Vec::<String>::new());
}

#[test]
fn an_archive_that_is_not_what_was_announced_is_refused() {
    let bench = Bench::new();
    let wrong = Releases::serve(BTreeMap::from([
        (path(), Answer::File(working())),
        (format!("{}.sha256", path()), Answer::File(vec![b'a'; 64])),
    ]));
    let error = bench.fetch(&wrong).unwrap_err();
    let DownloadError::Checksum {
        expected, actual, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*expected, "a".repeat(64));
    assert_eq!(*actual, random::to_hex(&Sha256::digest(working())));

    let none = Releases::serve(BTreeMap::from([
        (path(), Answer::File(working())),
        (
            format!("{}.sha256", path()),
            Answer::File(b"<html>sign in</html>".to_vec()),
        ),
    ]));
    let error = bench.fetch(&none).unwrap_err();
    assert!(
        matches!(error, DownloadError::NoChecksum { .. }),
        "{error:?}"
    );
    assert_eq!(bench.kept(), Vec::<String>::new());
}

#[test]
fn a_truncated_archive_is_refused() {
    let bench = Bench::new();
    let whole = working();
    let sum = random::to_hex(&Sha256::digest(&whole));
    let broken_off = Releases::serve(BTreeMap::from([
        (path(), Answer::Half(whole.clone())),
        (format!("{}.sha256", path()), Answer::File(sum.into_bytes())),
    ]));
    let error = bench.fetch(&broken_off).unwrap_err();
    assert!(matches!(error, DownloadError::Http { .. }), "{error:?}");

    // Published broken: the checksum fits.
    let half = whole[..whole.len() / 2].to_vec();
    let error = bench.fetch(&Releases::with(half)).unwrap_err();
    assert!(
        matches!(
            error,
            DownloadError::Unpack {
                source: UnpackError::Io(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(bench.kept(), Vec::<String>::new());
}

#[test]
fn an_archive_without_a_server_is_refused() {
    let bench = Bench::new();
    let empty = archive(&[("top/README", EntryType::Regular, 0o644, "hello")]);
    let error = bench.fetch(&Releases::with(empty)).unwrap_err();
    assert!(matches!(error, DownloadError::Unusable { .. }), "{error:?}");
    assert_eq!(bench.kept(), Vec::<String>::new());
}

#[test]
fn nothing_is_unpacked_outside_of_its_directory() {
    let file = EntryType::Regular;
    let link = EntryType::Symlink;
    let hostile: [&[(&str, EntryType, u32, &str)]; 8] = [
        &[("top/../../escaped", file, 0o644, "x")],
        &[("../escaped", file, 0o644, "x")],
        &[("/top/escaped", file, 0o644, "x")],
        &[("top/a", link, 0o777, "/etc/passwd")],
        &[("top/a", link, 0o777, "../escaped")],
        &[
            ("top/a", link, 0o777, "b"),
            ("top/a/escaped", file, 0o644, "x"),
        ],
        // Each link stays inside when read alone; followed one through the other they do not.
        &[
            ("top/d/up", link, 0o777, ".."),
            ("top/out", link, 0o777, "d/up/.."),
            ("top/out/escaped", file, 0o644, "x"),
        ],
        &[("top/a", EntryType::Link, 0o644, "../../etc/passwd")],
    ];
    for entries in hostile {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut packed = tempfile::tempfile().unwrap();
        packed.write_all(&archive(entries)).unwrap();
        packed.rewind().unwrap();
        let error = unpack::unpack(&packed, &inner).unwrap_err();
        assert!(
            matches!(error, UnpackError::Escape { .. }),
            "{entries:?}: {error:?}"
        );
        let outside: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(outside, ["inner"], "{entries:?}");
    }
}

#[test]
fn devices_and_the_like_are_not_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let mut packed = tempfile::tempfile().unwrap();
    packed
        .write_all(&archive(&[("top/pipe", EntryType::Fifo, 0o644, "")]))
        .unwrap();
    packed.rewind().unwrap();
    let error = unpack::unpack(&packed, dir.path()).unwrap_err();
    assert!(matches!(error, UnpackError::Kind { .. }), "{error:?}");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("roots.pem");
    fs::write(&path, "no certificate here\n").unwrap();
    let error = certificates(&path).unwrap_err();
    assert!(error.to_string().contains("no certificate"), "{error}");
}

#[test]
fn the_address_of_the_releases_has_their_layout() {
    let url = URL_TEMPLATE
        .replace("{version}", "17.5.0")
        .replace("{target}", "x86_64-unknown-linux-gnu");
    assert_eq!(
        url,
        "https://github.com/theseus-rs/postgresql-binaries/releases/download/17.5.0/\
         postgresql-17.5.0-x86_64-unknown-linux-gnu.tar.gz"
    );
    // As cargo names this machine.
    let host = target().unwrap();
    assert!(host.starts_with(std::env::consts::ARCH), "{host}");
}
