//! Finds the programs of a Postgres server on this machine.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account::Account;
use crate::process::{self, ProcessError};
use crate::version::Version;

/// The environment variable that names the directory of the server's programs.
pub const PG_BIN_VARIABLE: &str = "POOLPROOF_PG_BIN";

/// What a directory must hold to count.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// The oldest version whose system views have all that is asked of them
/// (`pg_current_xact_id_if_assigned`).
const MAJOR_MIN: u32 = 13;

/// `postgres --version` prints one line; a wrapper script that asks something would hang.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Places with one directory per version in them, and where the programs are in those.
const PLACES: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// The programs of a Postgres server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that holds `postgres`, `initdb` and `pg_ctl`, without symbolic links.
    pub dir: PathBuf,
    /// The server's version.
    pub version: Version,
    /// What `postgres --version` prints.
    pub version_text: String,
}

impl Binaries {
    /// Looks whether `dir` holds a server that can be used, running it as `account`.
    pub(crate) fn at(dir: &Path, account: Option<&Account>) -> Result<Self, Unusable> {
        for program in PROGRAMS {
            if !dir.join(program).is_file() {
                return Err(Unusable::Incomplete { program });
            }
        }
        let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
        let mut command = process::command(&dir.join("postgres"), account, Path::new("/"));
        command.arg("--version");
        let answer = process::run(command, "", ANSWER_WITHIN).map_err(Unusable::Silent)?;
        let version_text = answer.output.trim().to_owned();
        let version = Version::parse(&version_text)
            .filter(|_| answer.status.success())
            .ok_or_else(|| Unusable::Answer {
                answer: version_text.clone(),
            })?;
        if version.major < MAJOR_MIN {
            return Err(Unusable::TooOld { version });
        }
        Ok(Self {
            dir,
            version,
            version_text,
        })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Why a directory does not count as a Postgres server.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A program is missing.
    #[error("it has no {program}")]
    Incomplete {
        /// Which one.
        program: &'static str,
    },
    /// `postgres --version` could not be run.
    #[error("its postgres could not be run")]
    Silent(#[source] ProcessError),
    /// `postgres --version` says something else.
    #[error("its postgres answers {answer:?} when asked for its version")]
    Answer {
        /// What it says.
        answer: String,
    },
    /// The version is too old.
    #[error("it is version {version}, and {MAJOR_MIN} is the oldest that can be used")]
    TooOld {
        /// The version.
        version: Version,
    },
}

/// Why no Postgres server was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The directory that was asked for is of no use.
    #[error("use the Postgres server in {} (asked for by {asked_by})", dir.display())]
    Chosen {
        /// The directory.
        dir: PathBuf,
        /// Who asked for it: an environment variable or the configuration.
        asked_by: &'static str,
        /// What is wrong with it.
        #[source]
        source: Unusable,
    },
    /// No program could be run, this one or another.
    #[error("run any Postgres server on this machine")]
    Machine(#[source] ProcessError),
    /// There is none in any of the known places.
    #[error("find a Postgres server on this machine{}", listed(rejected))]
    None {
        /// Directories that looked like one, and why they are not.
        rejected: Vec<(PathBuf, Unusable)>,
    },
}

fn listed(rejected: &[(PathBuf, Unusable)]) -> String {
    let lines = rejected
        .iter()
        .map(|(dir, problem)| format!("; {} does not count: {}", dir.display(), causes(problem)));
    lines.collect()
}

fn causes(problem: &Unusable) -> String {
    let sources = std::iter::successors(problem.source(), |error| (*error).source());
    sources.fold(problem.to_string(), |text, cause| {
        format!("{text}: {cause}")
    })
}

/// Where to look for a server.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// The one that has to be used, and who says so.
    pub(crate) chosen: Option<(PathBuf, &'static str)>,
    /// All others.
    pub(crate) places: Vec<PathBuf>,
}

impl Search {
    /// The places of this machine: `chosen`, else the environment's, else all that are known.
    pub(crate) fn here(chosen: Option<&Path>, downloads: &Path) -> Self {
        let by_config = chosen.map(|dir| (dir.to_path_buf(), "the configuration"));
        let by_variable = || {
            std::env::var_os(PG_BIN_VARIABLE)
                .filter(|value| !value.is_empty())
                .map(|dir| (dir.into(), PG_BIN_VARIABLE))
        };
        let mut places = on_path();
        places.extend(PLACES.iter().flat_map(|(parent, prefix, inner)| {
            children(Path::new(parent), prefix).map(move |dir| dir.join(inner))
        }));
        places.extend(children(downloads, "postgresql-").map(|dir| dir.join("bin")));
        Self {
            chosen: by_config.or_else(by_variable),
            places,
        }
    }

    /// Finds the server to use: the chosen one, else the newest.
    pub(crate) fn find(&self, account: Option<&Account>) -> Result<Binaries, FindError> {
        if let Some((dir, asked_by)) = &self.chosen {
            return Binaries::at(dir, account).map_err(|problem| match problem {
                Unusable::Silent(source @ ProcessError::Scratch { .. }) => {
                    FindError::Machine(source)
                }
                source => FindError::Chosen {
                    dir: dir.clone(),
                    asked_by,
                    source,
                },
            });
        }
        let mut seen = BTreeSet::new();
        let mut rejected = Vec::new();
        let mut newest: Option<Binaries> = None;
        for dir in self.places.iter().filter(|dir| dir.is_dir()) {
            let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
            if !seen.insert(dir.clone()) {
                continue;
            }
            match Binaries::at(&dir, account) {
                Ok(found)
                    if newest
                        .as_ref()
                        .is_none_or(|best| best.version < found.version) =>
                {
                    newest = Some(found);
                }
                Ok(_) => {}
                Err(Unusable::Silent(source @ ProcessError::Scratch { .. })) => {
                    return Err(FindError::Machine(source));
                }
                Err(problem) => rejected.push((dir, problem)),
            }
        }
        newest.ok_or(FindError::None { rejected })
    }
}

/// Finds the Postgres that a cluster would use, without downloading one.
///
/// `POOLPROOF_PG_BIN` wins or is an error; else it is the newest among `PATH`, the places of
/// packages, Homebrew, Postgres.app, and earlier downloads. As root, only those count that the
/// server's unprivileged user can run. Runs `postgres --version` for each, some milliseconds.
///
/// # Errors
/// [`FindError`] when there is none; [`crate::install_hint`] says what to install.
pub fn find_binaries() -> Result<Binaries, FindError> {
    // Without a user for servers no server will start; what is installed can be told all the same.
    let account = Account::for_servers().ok().flatten();
    let downloads = crate::home::default_home().map(|home| home.join("downloads"));
    Search::here(None, &downloads.unwrap_or_default()).find(account.as_ref())
}

/// Directories on `PATH` with a `postgres`, and those that it is a link into.
fn on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("postgres"))
        .filter(|postgres| postgres.is_file())
        .filter_map(|postgres| fs::canonicalize(postgres).ok())
        .filter_map(|postgres| postgres.parent().map(Path::to_path_buf))
        .collect()
}

/// Subdirectories of `parent` whose names begin with `prefix`; none when it cannot be read.
fn children(parent: &Path, prefix: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests;
