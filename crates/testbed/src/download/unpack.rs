//! Unpacks an archive into a directory, and nothing outside of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

/// Twenty times what an unpacked Postgres has.
const UNPACKED_BYTES_MAX: u64 = 2 << 30;

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is damaged, or files could not be written.
    #[error("read the archive or write its files")]
    Io(#[source] io::Error),
    /// It holds something that would end up elsewhere.
    #[error("accept {}, which leads out of the directory", path.display())]
    Escape {
        /// The entry, or what it points to.
        path: PathBuf,
    },
    /// It holds something that is neither a file nor a directory nor a link.
    #[error("accept {}, which is neither file, directory nor link", path.display())]
    Kind {
        /// The entry.
        path: PathBuf,
    },
    /// It would fill the disk.
    #[error("unpack more than {UNPACKED_BYTES_MAX} bytes")]
    TooLarge,
}

/// Unpacks `archive` (tar, gzip) into `dir`, without the one directory that everything is in.
pub(super) fn unpack(archive: &File, dir: &Path) -> Result<(), UnpackError> {
    let mut archive = Archive::new(GzDecoder::new(archive));
    let mut bytes = 0_u64;
    for entry in archive.entries().map_err(UnpackError::Io)? {
        let mut entry = entry.map_err(UnpackError::Io)?;
        bytes = bytes.saturating_add(entry.size());
        if bytes > UNPACKED_BYTES_MAX {
            return Err(UnpackError::TooLarge);
        }
        unpack_entry(&mut entry, dir)?;
    }
    Ok(())
}

fn unpack_entry(entry: &mut Entry<'_, impl io::Read>, dir: &Path) -> Result<(), UnpackError> {
    let path = entry.path().map_err(UnpackError::Io)?.into_owned();
    let Some(inner) = below_top(&path)? else {
        return Ok(());
    };
    let from = inner.parent().unwrap_or(Path::new(""));
    match entry.header().entry_type() {
        EntryType::Directory => {
            make_dirs(dir, &inner)?;
        }
        EntryType::Regular | EntryType::Continuous => {
            let mode = entry.header().mode().map_err(UnpackError::Io)?;
            make_dirs(dir, from)?;
            write_file(entry, &dir.join(&inner), mode).map_err(UnpackError::Io)?;
        }
        EntryType::Symlink => {
            let link = link_of(entry)?;
            if link.is_absolute() || !stays_inside(&from.join(&link)) {
                return Err(UnpackError::Escape { path: link });
            }
            make_dirs(dir, from)?;
            std::os::unix::fs::symlink(link, dir.join(&inner)).map_err(UnpackError::Io)?;
        }
        EntryType::Link => {
            let link = link_of(entry)?;
            let source = below_top(&link)?.ok_or(UnpackError::Escape { path: link })?;
            refuse_links(dir, &source)?;
            make_dirs(dir, from)?;
            fs::hard_link(dir.join(source), dir.join(&inner)).map_err(UnpackError::Io)?;
        }
        EntryType::XGlobalHeader | EntryType::XHeader => {}
        _ => return Err(UnpackError::Kind { path }),
    }
    Ok(())
}

fn link_of(entry: &Entry<'_, impl io::Read>) -> Result<PathBuf, UnpackError> {
    let link = entry.link_name().map_err(UnpackError::Io)?;
    Ok(link.unwrap_or_default().into_owned())
}

/// The path without its first directory; none for that directory itself.
fn below_top(path: &Path) -> Result<Option<PathBuf>, UnpackError> {
    let escape = || UnpackError::Escape {
        path: path.to_path_buf(),
    };
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(escape()),
        }
    }
    let inner: PathBuf = names.iter().skip(1).collect();
    Ok((names.len() > 1).then_some(inner))
}

/// Whether no step of a relative path goes above where it starts.
fn stays_inside(path: &Path) -> bool {
    let mut depth = 0_i32;
    path.components().all(|component| {
        depth += match component {
            Component::Normal(_) => 1,
            Component::ParentDir => -1,
            _ => 0,
        };
        depth >= 0
    })
}

/// Creates the directories of `inner` inside `dir`.
fn make_dirs(dir: &Path, inner: &Path) -> Result<(), UnpackError> {
    refuse_links(dir, inner)?;
    crate::home::create(&dir.join(inner), 0o755).map_err(UnpackError::Io)
}

/// Nothing is written or linked through a symbolic link: several of them, each harmless by
/// itself, can add up to a way out.
fn refuse_links(dir: &Path, inner: &Path) -> Result<(), UnpackError> {
    let mut path = dir.to_path_buf();
    for name in inner {
        path.push(name);
        if path.is_symlink() {
            return Err(UnpackError::Escape { path });
        }
    }
    Ok(())
}

fn write_file(entry: &mut impl io::Read, target: &Path, mode: u32) -> io::Result<()> {
    // `create_new`: never through a link that an earlier entry made.
    let mut file = File::create_new(target)?;
    io::copy(entry, &mut file)?;
    // Whoever runs the server has to read and execute it; nothing else of the mode is wanted.
    let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
    file.set_permissions(fs::Permissions::from_mode(mode))
}
