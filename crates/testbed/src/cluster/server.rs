//! The server process of a cluster and the directory that it lives in.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Mutex;

use super::error::{StartError, says_full};
use super::{LocalConfig, is_run_id};
use crate::account::{Account, server_uid};
use crate::binaries::{Binaries, FindError, Search};
use crate::download::{self, DownloadError};
use crate::home::Home;
use crate::last_words::{refused_settings, tail};
use crate::process;
use crate::processes;
use crate::reap;
use crate::run_dir::RunDir;
use crate::settings;
use crate::settle::Alive;
use crate::teardown::{Gentleness, StopError, cluster_name, tear_down};
use crate::template::Template;

/// The Postgres that is here, else the one that `download` brings. One that was asked for and is
/// of no use is an error: to take another would surprise.
fn binaries(
    search: &Search,
    account: Option<&Account>,
    download: impl FnOnce() -> Result<Binaries, DownloadError>,
) -> Result<Binaries, StartError> {
    match search.find(account) {
        Ok(found) => Ok(found),
        Err(find @ FindError::None { .. }) => download().map_err(|source| StartError::NoPostgres {
            find,
            source: Box::new(source),
        }),
        Err(chosen) => Err(StartError::Find(chosen)),
    }
}

/// A server and its directory; both go with this value.
pub(super) struct Server {
    account: Option<Account>,
    binaries: Binaries,
    run: RunDir,
    password: String,
    port: u16,
    /// The settings that were chosen for it.
    settings: BTreeMap<String, String>,
    /// The postmaster, once launched. Held for the time of one system call.
    child: Mutex<Option<Child>>,
    ended: bool,
    /// Goes last.
    _alive: Alive,
}

impl Server {
    /// Finds Postgres and makes the run's directory with a data directory in it.
    pub(super) fn prepare(config: &LocalConfig, alive: Alive) -> Result<Self, StartError> {
        if !is_run_id(&config.run_id) {
            let run_id = config.run_id.clone();
            return Err(StartError::RunId { run_id });
        }
        let conf = settings::lines(&config.settings, &cluster_name(&config.run_id))
            .map_err(StartError::Setting)?;
        let account = Account::for_servers().map_err(StartError::Account)?;
        let home =
            Home::open(config.home.as_deref(), account.as_ref()).map_err(StartError::Home)?;
        reap::before_start(&home, account.as_ref());
        let search = Search::here(config.bin_dir.as_deref(), &home.downloads());
        let binaries = binaries(&search, account.as_ref(), || {
            download::fetch(&home, account.as_ref())
        })?;

        let run = RunDir::create(&home, &config.run_id).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                let run_id = config.run_id.clone();
                return StartError::RunTaken { run_id };
            }
            StartError::files(home.runs().join(&config.run_id), source)
        })?;
        // From here on whatever fails, or is dropped, takes the directory along.
        let mut server = Self {
            account,
            binaries,
            run,
            password: String::new(),
            port: 0,
            settings: config.settings.clone(),
            child: Mutex::new(None),
            ended: false,
            _alive: alive,
        };
        server.password = server.fill(&home, &conf)?;
        Ok(server)
    }

    /// Makes the data directory and returns the superuser's password.
    fn fill(&self, home: &Home, conf: &str) -> Result<String, StartError> {
        let data = self.run.data();
        let password = Template::new(home, &self.binaries, self.account.as_ref())
            .copy_to(&data)
            .map_err(|error| StartError::template(home.path().to_path_buf(), error))?;
        let files = |source| StartError::files(data.clone(), source);
        OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .and_then(|mut file| file.write_all(conf.as_bytes()))
            .map_err(files)?;
        if let Some(account) = &self.account {
            let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
            chown(&data, Some(uid), Some(gid)).map_err(files)?;
        }
        Ok(password)
    }

    /// Starts the postmaster on a port that is free at this moment, and returns the port.
    pub(super) fn launch(&mut self) -> Result<u16, StartError> {
        let port = free_port().map_err(StartError::Port)?;
        self.launch_on(port)?;
        Ok(port)
    }

    /// Starts the postmaster on `port`, free or not.
    pub(super) fn launch_on(&mut self, port: u16) -> Result<(), StartError> {
        self.port = port;
        let files = |source| StartError::files(self.run.path().to_path_buf(), source);
        // Truncated: what an earlier attempt said about its port is of no interest any more.
        let log = fs::File::create(self.run.log()).map_err(files)?;
        let program = self.binaries.program("postgres");
        let mut command = process::command(&program, self.account.as_ref(), self.run.path());
        command
            .arg("-D")
            .arg(self.run.data())
            .args(["-p", &self.port.to_string()])
            .stdout(log.try_clone().map_err(files)?)
            .stderr(log);
        let child =
            process::spawn(&mut command).map_err(|source| StartError::Spawn { program, source })?;
        *self.child() = Some(child);
        Ok(())
    }

    /// Why the server ended while it was starting; none while it is alive.
    pub(super) fn start_failure(&self) -> Option<StartError> {
        let status = match self.child().as_mut()?.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => status,
            Err(source) => {
                let path = self.run.path().to_path_buf();
                return Some(StartError::Files { path, source });
            }
        };
        let log = fs::read_to_string(self.run.log()).unwrap_or_default();
        Some(self.explain(status, &log))
    }

    fn explain(&self, status: ExitStatus, log: &str) -> StartError {
        if log.contains("could not bind") && log.contains("in use") {
            return StartError::PortTaken { port: self.port };
        }
        if says_full(log) {
            let path = self.run.path().to_path_buf();
            return StartError::DiskFull { path };
        }
        let refused = refused_settings(log, &self.settings);
        if !refused.is_empty() {
            return StartError::SettingRefused { refused };
        }
        StartError::Exited {
            status: status.to_string(),
            log: tail(log),
        }
    }

    /// Writes down which files in /dev/shm the server uses: a killed one leaves them, and nothing
    /// else tells whose they are.
    pub(super) fn note_shared_memory(&self) -> Result<(), StartError> {
        let pid = i32::try_from(self.postmaster_pid()).expect("bug: a process id beyond i32");
        let names = processes::shared_files_of(pid);
        if names.is_empty() {
            return Ok(());
        }
        fs::write(self.run.shared_memory(), names.join("\n"))
            .map_err(|source| StartError::files(self.run.path().to_path_buf(), source))
    }

    /// Ends the server and removes its directory. Does nothing the second time.
    pub(super) fn end(&mut self, gentleness: Gentleness) -> Result<(), StopError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let child = self
            .child
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let uid = server_uid(self.account.as_ref());
        tear_down(&mut self.run, child.as_mut(), uid, gentleness)
    }

    pub(super) fn is_running(&self) -> bool {
        self.child()
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// None while the postmaster is alive, and when it was never launched.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        self.child().as_mut()?.try_wait().ok().flatten()
    }

    pub(super) fn postmaster_pid(&self) -> u32 {
        self.child().as_ref().map_or(0, Child::id)
    }

    pub(super) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    #[cfg(test)]
    pub(super) fn processes(&self, list: impl Fn(processes::Mark<'_>) -> Vec<i32>) -> Vec<i32> {
        list(processes::Mark {
            run_dir: self.run.path(),
            cluster_name: &cluster_name(&self.run.name()),
            uid: server_uid(self.account.as_ref()),
        })
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }

    pub(super) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    pub(super) fn run_path(&self) -> &Path {
        self.run.path()
    }

    pub(super) fn run_id(&self) -> String {
        self.run.name()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.run.data()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.run.log()
    }

    pub(super) fn log_tail(&self) -> String {
        tail(&fs::read_to_string(self.run.log()).unwrap_or_default())
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        // A panic elsewhere must not keep the server from being ended.
        self.child
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end(Gentleness::Immediate) {
            tracing::error!(
                run = %self.run.name(),
                %error,
                "a cluster could not be removed; the next run tries again"
            );
        }
    }
}

/// The server binds it a moment later; a neighbour may be faster, and then another is tried.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests;
