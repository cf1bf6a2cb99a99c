//! The user that servers run as. Postgres refuses to run as root.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

/// Tried in this order: the package's own user, its names elsewhere, and the one that exists
/// everywhere.
const CANDIDATES: [&str; 4] = ["postgres", "_postgres", "pgsql", "nobody"];

/// Why no user was found to run a server as.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// None of the candidates is in the system's user database.
    #[error("find an unprivileged user for the server (looked for {})", CANDIDATES.join(", "))]
    NoneExists,
    /// The system's user database could not be read.
    #[error("look up user {name}")]
    Lookup {
        /// Who was looked up.
        name: &'static str,
        /// What the system said.
        #[source]
        source: nix::Error,
    },
}

/// An unprivileged user that a server runs as because we are root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

impl Account {
    /// Finds the user to run servers as; none when we are not root and it is ourselves.
    pub(crate) fn for_servers() -> Result<Option<Self>, AccountError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        for name in CANDIDATES {
            let user =
                User::from_name(name).map_err(|source| AccountError::Lookup { name, source })?;
            if let Some(user) = user.filter(|user| !user.uid.is_root()) {
                return Ok(Some(Self {
                    name: user.name,
                    uid: user.uid,
                    gid: user.gid,
                }));
            }
        }
        Err(AccountError::NoneExists)
    }

    /// The uppermost directory on the way to `path` that this user may not enter.
    ///
    /// Reads permission bits, not access control lists.
    pub(crate) fn barrier(&self, path: &Path) -> Option<PathBuf> {
        let mut way: Vec<_> = path.ancestors().collect();
        way.reverse();
        way.into_iter()
            .find(|dir| dir.metadata().is_ok_and(|meta| !self.may_enter(&meta)))
            .map(Path::to_path_buf)
    }

    fn may_enter(&self, dir: &Metadata) -> bool {
        let bit = if dir.uid() == self.uid.as_raw() {
            0o100
        } else if dir.gid() == self.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        dir.mode() & bit != 0
    }
}

/// Returns the unprivileged user that servers run as because we are root; none when we are not,
/// and servers run as ourselves.
///
/// # Errors
/// [`AccountError`] when we are root and there is no such user.
pub fn server_user() -> Result<Option<String>, AccountError> {
    Ok(Account::for_servers()?.map(|account| account.name))
}

/// The user id that servers run under: the account's, else our own.
pub(crate) fn server_uid(account: Option<&Account>) -> Uid {
    account.map_or_else(Uid::effective, |account| account.uid)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_directory_on_the_way_is_named() {
        let stranger = Account {
            name: "stranger".into(),
            uid: Uid::from_raw(61_234),
            gid: Gid::from_raw(61_234),
        };
        let root = tempfile::tempdir().unwrap();
        let private = root.path().join("private");
        let inner = private.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&private, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(stranger.barrier(&inner), None);

        fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(stranger.barrier(&inner), Some(private));
    }
}
