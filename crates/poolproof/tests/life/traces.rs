//! What a run has in the system while it lives, looked for by other means than the testbed's own.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;
use crate::program::eventually;

/// Everything that is known of one run's server.
#[derive(Debug)]
pub(crate) struct Traces {
    run_dir: PathBuf,
    postmaster: i32,
    port: u16,
    /// Key and id of its SysV segment, as `/proc/sysvipc/shm` prints them.
    segment: (String, String),
    shared_files: Vec<PathBuf>,
}

impl Traces {
    /// Waits for the only server of the place and reads its traces.
    #[track_caller]
    pub(crate) fn of(place: &Place) -> Self {
        Self::of_another(place, &[])
    }

    /// Waits for a server of the place that is none of `known` and reads its traces.
    #[track_caller]
    pub(crate) fn of_another(place: &Place, known: &[&Self]) -> Self {
        let mut found = None;
        eventually("a server of this place", || {
            found = run_dirs(place)
                .into_iter()
                .filter(|dir| known.iter().all(|other| other.run_dir != *dir))
                .find_map(|dir| Self::at(&dir));
            found.is_some()
        });
        let found = found.unwrap();
        found.assert_present();
        found
    }

    /// None while the server is starting.
    fn at(run_dir: &Path) -> Option<Self> {
        let lock = fs::read_to_string(run_dir.join("data/postmaster.pid")).ok()?;
        let lines: Vec<_> = lock.lines().map(str::trim).collect();
        if lines.get(7) != Some(&"ready") {
            return None;
        }
        let (key, id) = lines[6].split_once(char::is_whitespace)?;
        let maps = fs::read_to_string(format!("/proc/{}/maps", lines[0])).ok()?;
        let mut shared_files: Vec<_> = maps
            .lines()
            .filter_map(|line| line.find("/dev/shm/").map(|at| PathBuf::from(&line[at..])))
            .collect();
        shared_files.dedup();
        Some(Self {
            run_dir: run_dir.to_path_buf(),
            postmaster: lines[0].parse().ok()?,
            port: lines[3].parse().ok()?,
            segment: (key.to_owned(), id.trim().to_owned()),
            shared_files,
        })
    }

    pub(crate) fn kill_postmaster(&self) {
        kill(Pid::from_raw(self.postmaster), Signal::SIGKILL).unwrap();
    }

    /// Without this, [`Traces::assert_gone`] could hold for what it looks for in the wrong place.
    #[track_caller]
    pub(crate) fn assert_present(&self) {
        assert!(processes_of(&self.run_dir).len() > 3, "{self:?}");
        assert!(self.has_segment(), "{self:?}");
        assert_eq!(self.shared_files.len(), 1, "{self:?}");
        assert!(self.shared_files[0].exists(), "{self:?}");
        TcpStream::connect(("127.0.0.1", self.port)).unwrap();
    }

    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        assert_eq!(processes_of(&self.run_dir), Vec::<String>::new());
        assert!(!self.run_dir.exists(), "{self:?}");
        assert!(!self.has_segment(), "{self:?}");
        assert!(!self.shared_files[0].exists(), "{self:?}");
        let socket = format!("/tmp/.s.PGSQL.{}", self.port);
        assert!(!Path::new(&socket).exists(), "{self:?}");
    }

    fn has_segment(&self) -> bool {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        table.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(&self.segment.0) && words.next() == Some(&self.segment.1)
        })
    }
}

/// Checks that nothing in the system names this place: no process, no socket, no run directory.
#[track_caller]
pub(crate) fn assert_nothing_left(place: &Place) {
    assert_eq!(processes_of(place.root()), Vec::<String>::new());
    assert_eq!(run_dirs(place), Vec::<PathBuf>::new());
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let ours = place.root().to_str().unwrap();
    assert!(!sockets.contains(ours), "{sockets}");
}

/// Directories of runs in the place's home.
pub(crate) fn run_dirs(place: &Place) -> Vec<PathBuf> {
    let Ok(runs) = fs::read_dir(place.home.join("runs")) else {
        return Vec::new();
    };
    let paths = runs.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_dir()).collect()
}

/// Command lines of processes that work below `dir`, name it, or carry the name of its run.
pub(crate) fn processes_of(dir: &Path) -> Vec<String> {
    let title = format!("poolproof-{}:", dir.file_name().unwrap().to_str().unwrap());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let process = entry.unwrap().path();
        // Whatever cannot be read has just ended, or is no process.
        let Ok(line) = fs::read(process.join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let works_here = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        if works_here || line.contains(dir.to_str().unwrap()) || line.contains(&title) {
            found.push(format!("{}: {line}", process.display()));
        }
    }
    found
}
