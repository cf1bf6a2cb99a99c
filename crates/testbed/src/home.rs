//! Where templates, downloads and running clusters live on disk.
//!
//! `POOLPROOF_HOME` names the directory. Without it, root uses `/var/cache/poolproof`, because
//! the server's unprivileged user has to get in, and everybody else uses their cache directory.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Uid, User};

use crate::account::Account;
use crate::process;

/// The environment variable that names the directory for everything that poolproof keeps on disk.
pub const HOME_VARIABLE: &str = "POOLPROOF_HOME";

const HOME_OF_ROOT: &str = "/var/cache/poolproof";

/// Why there is no directory to work in.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither the environment nor the user database tells a home directory.
    #[error("find a cache directory: neither XDG_CACHE_HOME nor HOME is an absolute path")]
    Unknown,
    /// The directory could not be created or written to.
    #[error("use the directory {}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server's user cannot reach it.
    #[error("use the directory {}: user {user}, who runs the server, may not enter {}", path.display(), barrier.display())]
    Unreachable {
        /// The directory.
        path: PathBuf,
        /// The directory above it, or itself, that keeps the user out.
        barrier: PathBuf,
        /// The user.
        user: String,
    },
}

/// The directory for everything that poolproof keeps on disk, and its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home {
    root: PathBuf,
}

impl Home {
    /// Opens `chosen`, else what the environment says, and creates what is missing.
    pub(crate) fn open(
        chosen: Option<&Path>,
        account: Option<&Account>,
    ) -> Result<Self, HomeError> {
        let path = chosen.map_or_else(default_path, |path| Ok(path.to_path_buf()))?;
        let unusable = |source| HomeError::Unusable {
            path: path.clone(),
            source,
        };
        let path = std::path::absolute(&path).map_err(unusable)?;
        // Before anything is made in a place that is of no use.
        reachable(&path, account)?;
        // The server's user passes through these on its way to its data; what is private in them
        // carries its own permissions.
        let mode = if account.is_some() { 0o755 } else { 0o700 };
        create(&path, mode).map_err(unusable)?;
        // What the kernel tells about processes has no symbolic links in it.
        let root = fs::canonicalize(&path).map_err(unusable)?;
        let home = Self { root };
        let fresh = !home.runs().exists();
        for part in [home.downloads(), home.runs(), home.templates()] {
            create(&part, mode).map_err(unusable)?;
            reachable(&part, account)?;
        }
        if fresh {
            spread(&home.runs());
        }
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.root.join("templates")
    }
}

/// Returns the directory that is used when a configuration names none. It may not exist yet.
///
/// # Errors
/// [`HomeError::Unknown`] when nothing tells where the user's caches are.
pub fn default_home() -> Result<PathBuf, HomeError> {
    default_path()
}

/// Returns the directory that is used when a configuration names none, if the server's user can
/// get there. It may not exist yet, and nothing is made.
///
/// # Errors
/// [`HomeError::Unknown`] when nothing tells where the user's caches are;
/// [`HomeError::Unreachable`] when a directory on the way keeps the server's user out.
pub fn reachable_home() -> Result<PathBuf, HomeError> {
    // Without a user for servers no server will start, wherever its files are.
    let account = Account::for_servers().ok().flatten();
    let path = default_path()?;
    let absolute = std::path::absolute(&path).map_err(|source| HomeError::Unusable {
        path: path.clone(),
        source,
    })?;
    let parts = ["", "downloads", "runs", "templates"];
    for part in parts.map(|part| absolute.join(part)) {
        reachable(&part, account.as_ref())?;
    }
    Ok(path)
}

fn reachable(path: &Path, account: Option<&Account>) -> Result<(), HomeError> {
    match account.map(|it| (it, it.barrier(path))) {
        Some((account, Some(barrier))) => Err(HomeError::Unreachable {
            path: path.to_path_buf(),
            barrier,
            user: account.name.clone(),
        }),
        _ => Ok(()),
    }
}

fn default_path() -> Result<PathBuf, HomeError> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(home) = variable(HOME_VARIABLE) {
        return Ok(home.into());
    }
    let user = Uid::effective();
    if user.is_root() {
        return Ok(HOME_OF_ROOT.into());
    }
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let xdg = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .and_then(absolute);
    xdg.or_else(|| {
        let home = variable("HOME").map(PathBuf::from).and_then(absolute);
        let caches = if cfg!(target_os = "macos") {
            "Library/Caches"
        } else {
            ".cache"
        };
        // Without HOME (as under some service managers) the user database knows it.
        home.or_else(|| User::from_uid(user).ok().flatten().map(|user| user.dir))
            .map(|home| home.join(caches))
    })
    .map(|caches| caches.join("poolproof"))
    .ok_or(HomeError::Unknown)
}

/// Tells an ext4 file system that the directories in `dir` have nothing to do with each other.
///
/// It then puts each run into a part of the disk of its own. Otherwise they all share one, where
/// (without a journal) it steps over each file that was deleted within the last minutes before it
/// creates another: 0.25 s for a copy become 1.3 s on a machine that runs many tests. Only a hint:
/// other file systems refuse it, and some systems have no `chattr`.
fn spread(dir: &Path) {
    let mut chattr = process::command(Path::new("chattr"), None, dir);
    chattr.arg("+T").arg(dir);
    let end = process::run(chattr, "", Duration::from_secs(10));
    if !matches!(&end, Ok(done) if done.status.success()) {
        tracing::debug!(?end, dir = %dir.display(), "the file system takes no hint for placing runs");
    }
}

/// Creates `path` and what is missing above it, each with exactly `mode` whatever the umask is.
pub(crate) fn create(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if path.is_dir() {
                Ok(())
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use nix::unistd::Gid;

    use super::*;

    #[test]
    fn a_home_that_the_servers_user_cannot_reach_is_refused_and_not_made() {
        let stranger = Account {
            name: "stranger".into(),
            uid: Uid::from_raw(61_234),
            gid: Gid::from_raw(61_234),
        };
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().canonicalize().unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
        let error = Home::open(Some(&private.join("home")), Some(&stranger)).unwrap_err();
        let HomeError::Unreachable { barrier, user, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!((barrier, user.as_str()), (&private, "stranger"));
        assert!(!private.join("home").exists());

        fs::set_permissions(&private, fs::Permissions::from_mode(0o755)).unwrap();
        let home = Home::open(Some(&private.join("home")), Some(&stranger)).unwrap();
        let mode = fs::metadata(home.runs()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn a_home_that_cannot_be_made_is_told_with_its_cause() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Home::open(Some(&file.path().join("home")), None).unwrap_err();
        let HomeError::Unusable { source, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(source.kind(), io::ErrorKind::NotADirectory);
    }
}
