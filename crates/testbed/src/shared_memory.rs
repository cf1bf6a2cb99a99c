//! Shared memory that a killed server leaves in the kernel: a SysV segment, files in /dev/shm.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;

use crate::postmaster_pid::Segment;
use crate::process::{self, ProcessError};
use crate::processes;
use crate::wait;

/// The list of a server with 100 connections has 27 kB; segments with data begin at 1 MB.
const LIST_BYTES_MAX: u64 = 512 * 1024;
/// Counters in the list are small numbers; a random name is one of them once in 65,536 times.
const NAME_MIN: u32 = 1 << 16;

/// How long the memory of ended processes may take to go.
const DETACHED_WITHIN: Duration = Duration::from_secs(5);

const TOOL_WITHIN: Duration = Duration::from_secs(20);

/// Why shared memory could not be freed.
#[derive(Debug, thiserror::Error)]
pub enum SharedMemoryError {
    /// `ipcrm` could not be run.
    #[error("remove shared memory segment {id} with ipcrm")]
    Tool {
        /// The segment.
        id: i32,
        /// What went wrong.
        #[source]
        source: ProcessError,
    },
    /// `ipcrm` ran and the segment is still there.
    #[error("remove shared memory segment {id}: ipcrm says {answer:?}")]
    Refused {
        /// The segment.
        id: i32,
        /// What `ipcrm` printed.
        answer: String,
    },
    /// A process that is none of the cluster's uses the segment.
    #[error("remove shared memory segment {id}: {attached} processes use it")]
    Attached {
        /// The segment.
        id: i32,
        /// How many.
        attached: u64,
    },
    /// A file in /dev/shm could not be removed.
    #[error("remove /dev/shm/{name}")]
    File {
        /// The file.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// How many processes use a segment; none when there is no such segment of this user.
///
/// Both key and id have to fit: after a restart of the machine ids are given out again.
pub(crate) fn attached(segment: Segment, uid: Uid) -> Option<u64> {
    match fs::read_to_string("/proc/sysvipc/shm") {
        Ok(table) => attached_in_proc(&table, segment, uid),
        Err(_absent) => {
            let mut command = process::command(Path::new("/usr/bin/ipcs"), None, Path::new("/"));
            command.arg("-m");
            let done = process::run(command, "", TOOL_WITHIN).ok()?;
            is_in_ipcs(&done.output, segment).then_some(0)
        }
    }
}

/// Removes a segment that a dead server left; does nothing when it is gone.
pub(crate) fn remove_segment(segment: Segment, uid: Uid) -> Result<(), SharedMemoryError> {
    let id = segment.id;
    // A process that is ending has lost its command line some moments before its memory.
    wait::until(DETACHED_WITHIN, || {
        attached(segment, uid).is_none_or(|attached| attached == 0)
    });
    match attached(segment, uid) {
        None => return Ok(()),
        Some(0) => {}
        Some(attached) => return Err(SharedMemoryError::Attached { id, attached }),
    }
    let mut command = process::command(Path::new("ipcrm"), None, Path::new("/"));
    command.args(["-m", &id.to_string()]);
    if uid != Uid::effective() {
        // Its owner may remove it; root may only with a capability that containers lack.
        command.uid(uid.as_raw());
    }
    let done = process::run(command, "", TOOL_WITHIN)
        .map_err(|source| SharedMemoryError::Tool { id, source })?;
    if attached(segment, uid).is_some() {
        let answer = done.output.trim().to_owned();
        return Err(SharedMemoryError::Refused { id, answer });
    }
    Ok(())
}

/// Removes files in /dev/shm that a dead server left: those of `names` and those that they list.
///
/// One of them is the server's own list of all others.
pub(crate) fn remove_files(names: &[String], uid: Uid) -> Result<(), SharedMemoryError> {
    let dir = Path::new("/dev/shm");
    let mut all: BTreeSet<String> = names
        .iter()
        .filter(|name| processes::is_shared_file(name))
        .cloned()
        .collect();
    for list in all.clone() {
        if let Some(list) = regular_of(&dir.join(list), uid) {
            all.extend(listed_in(&list));
        }
    }
    for name in all {
        let path = dir.join(&name);
        if regular_of(&path, uid).is_none() {
            continue;
        }
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(SharedMemoryError::File { name, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The path, if it is a file of this user.
fn regular_of(path: &Path, uid: Uid) -> Option<PathBuf> {
    let meta = fs::symlink_metadata(path).ok()?;
    (meta.is_file() && meta.uid() == uid.as_raw()).then(|| path.to_path_buf())
}

/// The names that a server's list of its files may hold.
///
/// Names are random 32-bit numbers, and the list is an array of structs around them that differs
/// between versions. So every aligned number counts: whatever is no name has no file, but for one
/// chance in some hundred thousand.
fn listed_in(list: &Path) -> Vec<String> {
    let small = fs::metadata(list).is_ok_and(|meta| meta.len() <= LIST_BYTES_MAX);
    let bytes = if small {
        fs::read(list)
    } else {
        return Vec::new();
    };
    let (numbers, _rest) = bytes.as_deref().unwrap_or_default().as_chunks::<4>();
    numbers
        .iter()
        .map(|number| u32::from_ne_bytes(*number))
        .filter(|number| *number >= NAME_MIN)
        .map(|number| format!("PostgreSQL.{number}"))
        .collect()
}

fn attached_in_proc(table: &str, segment: Segment, uid: Uid) -> Option<u64> {
    // key shmid perms size cpid lpid nattch uid …; the key is printed as a signed number.
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
        let key = number(0)? & 0xffff_ffff;
        let fits = key == i64::from(segment.key)
            && number(1)? == i64::from(segment.id)
            && number(7)? == i64::from(uid.as_raw());
        fits.then(|| u64::try_from(number(6)?).ok())?
    })
}

fn is_in_ipcs(listing: &str, segment: Segment) -> bool {
    let key = format!("0x{:08x}", segment.key);
    let id = segment.id.to_string();
    listing.lines().any(|line| {
        let mut words = line.split_whitespace();
        let has = |wanted: &str| line.split_whitespace().any(|word| word == wanted);
        words.next().is_some() && has(&key) && has(&id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Segment = Segment {
        key: 37_224_519,
        id: 7,
    };

    #[test]
    fn a_segment_is_known_by_key_id_and_owner() {
        let table = "       key      shmid perms  size  cpid  lpid nattch   uid   gid\n\
             \x20 37224519          7   600    56  4711  4800      6   101   104\n";
        let owner = Uid::from_raw(101);
        assert_eq!(attached_in_proc(table, SEGMENT, owner), Some(6));
        let others = [
            (Segment { id: 8, ..SEGMENT }, owner),
            (Segment { key: 1, ..SEGMENT }, owner),
            (SEGMENT, Uid::from_raw(102)),
        ];
        for (segment, uid) in others {
            assert_eq!(attached_in_proc(table, segment, uid), None);
        }
    }

    #[test]
    fn a_listing_of_ipcs_shows_a_segment_in_either_order_of_columns() {
        let linux = "key        shmid      owner      perms      bytes\n\
             0x02380007 7          postgres   600        56 \n";
        let mac = "T     ID     KEY        MODE       OWNER    GROUP\n\
             m      7 0x02380007 --rw------- postgres    staff\n";
        let segment = Segment {
            key: 0x0238_0007,
            id: 7,
        };
        for listing in [linux, mac] {
            assert!(is_in_ipcs(listing, segment), "{listing}");
            assert!(
                !is_in_ipcs(listing, Segment { id: 8, ..segment }),
                "{listing}"
            );
        }
    }
}
