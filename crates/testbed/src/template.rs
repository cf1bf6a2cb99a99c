//! A data directory that is initialised once per Postgres and then copied for each cluster.
//!
//! ```text
//! <home>/templates/<key>.lock     shared while it is copied, exclusive while it is built
//! <home>/templates/<key>/         built elsewhere and renamed into place
//!     manifest.json               how much a copy has to hold
//!     password                    the superuser's, 0600
//!     data/
//! ```
//! The key names the version, the installation and [`FORMAT`]. Everything in it belongs to the
//! user who runs poolproof, so that the server's user cannot put anything into later clusters.

mod copy;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::account::{Account, server_uid};
use crate::binaries::Binaries;
use crate::home::Home;
use crate::lock::{self, Mode};
use crate::process::{self, ProcessError};
use crate::processes::{self, Mark};
use crate::random;

pub(crate) use copy::copy_tree;
use copy::{Tally, give_to};

/// To be raised when what is built changes.
const FORMAT: u32 = 1;

/// The superuser of every cluster.
pub(crate) const SUPERUSER: &str = "poolproof";
/// The database of every cluster.
pub(crate) const DATABASE: &str = "poolproof";

/// A slow disk initialises a data directory in some seconds; a neighbour may be at it already.
const BUILD_WITHIN: Duration = Duration::from_secs(120);
const LOCK_WITHIN: Duration = Duration::from_secs(180);

/// Why there is no data directory to copy.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Files could not be read, written or locked.
    #[error("prepare a data directory in {}", path.display())]
    Files {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program could not be run to its end.
    #[error("run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What went wrong.
        #[source]
        source: ProcessError,
    },
    /// A program ran and failed.
    #[error("initialise a data directory: {} says: {}", program.display(), output.trim())]
    Failed {
        /// The program.
        program: PathBuf,
        /// What it printed.
        output: String,
    },
    /// What was just built is not whole.
    #[error("use the data directory in {}, which was just built and is not whole", path.display())]
    Broken {
        /// The template.
        path: PathBuf,
    },
}

impl TemplateError {
    /// What the system said about files, if it was files.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Files { source, .. }
            | Self::Run {
                source: ProcessError::Io(source),
                ..
            } => Some(source),
            _ => None,
        }
    }
}

/// What has to be in a whole template.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    version: String,
    data: Tally,
}

/// The template of one Postgres.
#[derive(Debug)]
pub(crate) struct Template<'a> {
    binaries: &'a Binaries,
    account: Option<&'a Account>,
    templates: PathBuf,
    key: String,
}

impl<'a> Template<'a> {
    pub(crate) fn new(home: &Home, binaries: &'a Binaries, account: Option<&'a Account>) -> Self {
        // Two builds of one version may lay out their data differently.
        let build = format!("{}\n{}", binaries.dir.display(), binaries.version_text);
        let build = random::to_hex(&Sha256::digest(build.as_bytes())[..4]);
        Self {
            binaries,
            account,
            templates: home.templates(),
            key: format!("pg{}-{build}-f{FORMAT}", binaries.version),
        }
    }

    /// Copies the template to `data`, building it first where needed. Returns the password of
    /// the superuser. The copy's files belong to the server's user, `data` itself not yet.
    pub(crate) fn copy_to(&self, data: &Path) -> Result<String, TemplateError> {
        let lock_path = self.templates.join(format!("{}.lock", self.key));
        let lock = lock::open(&lock_path).map_err(self.files())?;
        lock::take(&lock, Mode::Shared, LOCK_WITHIN).map_err(self.files())?;
        if let Some(password) = self.try_copy(data)? {
            return Ok(password);
        }
        lock.unlock().map_err(self.files())?;
        lock::take(&lock, Mode::Exclusive, LOCK_WITHIN).map_err(self.files())?;
        // A neighbour may have built it while we waited.
        if let Some(password) = self.try_copy(data)? {
            return Ok(password);
        }
        self.build()?;
        self.try_copy(data)?
            .ok_or_else(|| TemplateError::Broken { path: self.path() })
    }

    fn path(&self) -> PathBuf {
        self.templates.join(&self.key)
    }

    fn files(&self) -> impl Fn(io::Error) -> TemplateError + use<> {
        let path = self.path();
        move |source| TemplateError::Files {
            path: path.clone(),
            source,
        }
    }

    /// Copies the template; none when there is no whole one. The caller holds the lock.
    fn try_copy(&self, data: &Path) -> Result<Option<String>, TemplateError> {
        let path = self.path();
        let Some(manifest) = read_manifest(&path) else {
            return Ok(None);
        };
        let password = match fs::read_to_string(path.join("password")) {
            Ok(password) if !password.is_empty() => password,
            _ => return Ok(None),
        };
        match copy_tree(&path.join("data"), data, self.account) {
            Ok(copied) if copied == manifest.data => return Ok(Some(password)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = data.to_path_buf();
                return Err(TemplateError::Files { path, source });
            }
        }
        tracing::warn!(template = %path.display(), "the template is not whole and is built again");
        remove_if_there(data).map_err(self.files())?;
        Ok(None)
    }

    /// Builds the template and puts it into place. The caller holds the exclusive lock.
    fn build(&self) -> Result<(), TemplateError> {
        self.remove_half_built()?;
        let suffix = random::hex(4).map_err(self.files())?;
        let build = self
            .templates
            .join(format!("{}-{suffix}", self.build_prefix()));
        // The server's user passes through to its part.
        crate::home::create(&build, 0o755).map_err(self.files())?;
        let built = self.build_in(&build);
        if built.is_err() {
            // The first error tells the cause; what is left here goes with the next build.
            if let Err(error) = fs::remove_dir_all(&build) {
                tracing::debug!(%error, "a half-built template is left for the next build");
            }
            return built;
        }
        remove_if_there(&self.path()).map_err(self.files())?;
        fs::rename(&build, self.path()).map_err(self.files())
    }

    fn build_prefix(&self) -> String {
        format!(".build-{}", self.key)
    }

    /// Removes what killed builds left. Holding the lock, nobody else can be building this key.
    fn remove_half_built(&self) -> Result<(), TemplateError> {
        for entry in fs::read_dir(&self.templates).map_err(self.files())? {
            let path = entry.map_err(self.files())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(&self.build_prefix()) {
                continue;
            }
            // An `initdb` outlives the run that started it.
            let mark = Mark {
                run_dir: &path,
                cluster_name: &name,
                uid: server_uid(self.account),
            };
            crate::wait::until(Duration::from_secs(10), || {
                processes::signal_all(mark, Signal::SIGKILL);
                processes::of(mark).is_empty()
            });
            fs::remove_dir_all(&path).map_err(self.files())?;
        }
        Ok(())
    }

    fn build_in(&self, build: &Path) -> Result<(), TemplateError> {
        let data = build.join("data");
        crate::home::create(&data, 0o700).map_err(self.files())?;
        let password = random::hex(24).map_err(self.files())?;
        // In a file for `initdb`: arguments can be read by everybody.
        let for_initdb = build.join("pwfile");
        write_secret(&for_initdb, &password).map_err(self.files())?;
        if let Some(account) = self.account {
            for path in [&data, &for_initdb] {
                let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
                chown(path, Some(uid), Some(gid)).map_err(self.files())?;
            }
        }
        self.initdb(build, &data, &for_initdb)?;
        self.rename_database(build, &data)?;

        fs::remove_file(&for_initdb).map_err(self.files())?;
        let data = give_to(&data, Uid::effective()).map_err(self.files())?;
        write_secret(&build.join("password"), &password).map_err(self.files())?;
        let manifest = serde_json::to_vec(&Manifest {
            format: FORMAT,
            version: self.binaries.version_text.clone(),
            data,
        })
        .map_err(|error| self.files()(error.into()))?;
        fs::write(build.join("manifest.json"), manifest).map_err(self.files())
    }

    fn initdb(&self, build: &Path, data: &Path, pwfile: &Path) -> Result<(), TemplateError> {
        let program = self.binaries.program("initdb");
        let mut initdb = process::command(&program, self.account, build);
        initdb
            .arg("--pgdata")
            .arg(data)
            .arg("--pwfile")
            .arg(pwfile)
            .args(["--username", SUPERUSER])
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .arg("--no-sync");
        self.finish(program, initdb, "")
    }

    /// Gives the one database the name that runs use, without a server and so without a socket.
    ///
    /// Renaming instead of creating, and doing without `template0`, halves the number of files of
    /// each copy. `create database` works from `template1`.
    fn rename_database(&self, build: &Path, data: &Path) -> Result<(), TemplateError> {
        let program = self.binaries.program("postgres");
        let mut single = process::command(&program, self.account, build);
        single
            .args(["--single", "-D"])
            .arg(data)
            .args(["-c", "exit_on_error=true"])
            .args(["-c", "dynamic_shared_memory_type=mmap"])
            .arg("template1");
        // One command per line is how the standalone server reads them.
        let commands = format!(
            "alter database postgres rename to {DATABASE}\n\
             update pg_database set datistemplate = false where datname = 'template0'\n\
             drop database template0\n"
        );
        self.finish(program, single, &commands)
    }

    fn finish(
        &self,
        program: PathBuf,
        command: std::process::Command,
        input: &str,
    ) -> Result<(), TemplateError> {
        match process::run(command, input, BUILD_WITHIN) {
            Ok(done) if done.status.success() => Ok(()),
            Ok(done) => Err(TemplateError::Failed {
                program,
                output: done.output,
            }),
            Err(source) => Err(TemplateError::Run { program, source }),
        }
    }
}

fn read_manifest(template: &Path) -> Option<Manifest> {
    let text = fs::read(template.join("manifest.json")).ok()?;
    serde_json::from_slice(&text)
        .ok()
        .filter(|manifest: &Manifest| manifest.format == FORMAT)
}

fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(secret.as_bytes())
}

fn remove_if_there(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        end => end,
    }
}

#[cfg(test)]
mod tests;
