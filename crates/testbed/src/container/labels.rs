//! What a container says about its run, and how a run's own are told from all others.
//!
//! A token stands in a label and in the run's directory, whose lock its owner holds. Only a
//! container that shows the token of a directory is of its run; a dead run is one whose lock is
//! free. The other labels are for people who read `docker ps`.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::random;
use crate::run_dir::RunDir;

/// Tells which run a container belongs to: for people and for filters.
pub const RUN_LABEL: &str = "poolproof.run";
pub(super) const TOKEN_LABEL: &str = "poolproof.token";

const TOKEN_BYTES: usize = 16;

#[derive(Debug, Clone)]
pub(super) struct Labels {
    run_id: String,
    token: String,
}

impl Labels {
    /// Draws a token and writes it down in the run's directory.
    pub(super) fn note(run: &RunDir) -> io::Result<Self> {
        let token = random::hex(TOKEN_BYTES)?;
        fs::write(run.container(), &token)?;
        Ok(Self {
            run_id: run.name(),
            token,
        })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn all(&self) -> [(&'static str, String); 4] {
        let host = nix::unistd::gethostname().unwrap_or_default();
        [
            (RUN_LABEL, self.run_id.clone()),
            (TOKEN_LABEL, self.token.clone()),
            ("poolproof.pid", std::process::id().to_string()),
            ("poolproof.host", host.to_string_lossy().into_owned()),
        ]
    }
}

/// The token in a run's directory; none when the run has no container, or died before it asked for
/// one.
pub(super) fn token_of(run: &RunDir) -> Result<Option<String>, (PathBuf, io::Error)> {
    let path = run.container();
    match fs::read_to_string(&path) {
        Ok(token) if token.len() == 2 * TOKEN_BYTES => Ok(Some(token)),
        // Half written: no container was asked for yet.
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err((path, error)),
    }
}
