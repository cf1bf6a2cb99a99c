//! What a cluster leaves in the system, looked for by other means than the crate's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use poolproof_testbed::Cluster;

/// Everything that is known of one cluster.
#[derive(Debug)]
pub(crate) struct Traces {
    run_dir: PathBuf,
    port: u16,
    postmaster: i32,
    /// Key and id of its SysV segment, as `/proc/sysvipc/shm` prints them.
    segment: (String, String),
    shared_files: Vec<PathBuf>,
}

impl Traces {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self::at(&run_dir(cluster))
    }

    /// Reads the traces of a server that runs in `run_dir`, be it ours or another process's.
    pub(crate) fn at(run_dir: &Path) -> Self {
        let lock = fs::read_to_string(run_dir.join("data/postmaster.pid")).unwrap();
        let lines: Vec<_> = lock.lines().collect();
        let postmaster: i32 = lines[0].parse().unwrap();
        let segment = lines[6].split_whitespace().collect::<Vec<_>>();
        let maps: String = processes_in(run_dir)
            .into_iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/maps")).ok())
            .collect();
        let mut shared_files: Vec<_> = maps
            .lines()
            .filter_map(|line| line.find("/dev/shm/").map(|at| PathBuf::from(&line[at..])))
            .collect();
        shared_files.sort_unstable();
        shared_files.dedup();
        Self {
            run_dir: run_dir.to_path_buf(),
            port: lines[3].parse().unwrap(),
            postmaster,
            segment: (segment[0].to_owned(), segment[1].to_owned()),
            shared_files,
        }
    }

    pub(crate) fn postmaster(&self) -> u32 {
        self.postmaster.try_into().unwrap()
    }

    pub(crate) fn shared_files(&self) -> &[PathBuf] {
        &self.shared_files
    }

    /// Without this, `assert_gone` could hold for a cluster that it looks for in the wrong place.
    pub(crate) fn assert_present(&self) {
        assert!(self.run_dir.is_dir());
        assert!(processes_in(&self.run_dir).contains(&self.postmaster));
        assert!(processes_in(&self.run_dir).len() > 3);
        assert!(self.has_segment(), "{self:?}");
        assert!(self.shared_files.iter().all(|file| file.exists()));
        std::net::TcpStream::connect(("127.0.0.1", self.port)).unwrap();
    }

    pub(crate) fn assert_gone(&self) {
        assert_eq!(processes_in(&self.run_dir), Vec::<i32>::new());
        assert!(!self.run_dir.exists(), "{self:?}");
        assert!(!self.has_segment(), "{self:?}");
        let left: Vec<_> = self.shared_files.iter().filter(|it| it.exists()).collect();
        assert_eq!(left, Vec::<&PathBuf>::new());
    }

    pub(crate) fn has_segment(&self) -> bool {
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        table.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(&self.segment.0) && words.next() == Some(&self.segment.1)
        })
    }
}

pub(crate) fn run_dir(cluster: &Cluster) -> PathBuf {
    cluster.data_dir().parent().unwrap().to_path_buf()
}

/// The password of a cluster, from the template's secret file.
pub(crate) fn password_of(cluster: &Cluster) -> String {
    let templates = run_dir(cluster).join("../../templates");
    let mut newest: Vec<_> = fs::read_dir(templates)
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("password")).ok())
        .collect();
    // sqlx tells no password, but its `Debug` output does: the right one is in there.
    let printed = format!("{:?}", cluster.options());
    newest.retain(|password| printed.contains(password.as_str()));
    assert_eq!(newest.len(), 1);
    newest.remove(0)
}

/// Processes of whatever kind that work inside `dir`.
pub(crate) fn processes_in(dir: &Path) -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            cwd.starts_with(dir).then_some(pid)
        })
        .collect()
}

/// The letter for a process's state, as `ps` shows it.
pub(crate) fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// Waits until `holds`, 30 s at most.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _look in 0..3000 {
        if holds() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("waited 30 s for {what}");
}
