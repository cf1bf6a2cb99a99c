//! Shared memory that a killed server leaves in the kernel: a SysV segment, files in /dev/shm.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Uid;

use crate::postmaster_pid::Segment;
use crate::process::{self, ProcessError};
use crate::processes;

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
    match attached(segment, uid) {
        None => return Ok(()),
        Some(0) => {}
        Some(attached) => return Err(SharedMemoryError::Attached { id, attached }),
    }
    let mut command = process::command(Path::new("ipcrm"), None, Path::new("/"));
    command.args(["-m", &id.to_string()]);
    let done = process::run(command, "", TOOL_WITHIN)
        .map_err(|source| SharedMemoryError::Tool { id, source })?;
    if attached(segment, uid).is_some() {
        let answer = done.output.trim().to_owned();
        return Err(SharedMemoryError::Refused { id, answer });
    }
    Ok(())
}

/// Removes files in /dev/shm that a dead server left; names that Postgres gives nobody are left.
pub(crate) fn remove_files(names: &[String], uid: Uid) -> Result<(), SharedMemoryError> {
    for name in names.iter().filter(|name| processes::is_shared_file(name)) {
        let path = Path::new("/dev/shm").join(name);
        let ours = fs::symlink_metadata(&path).is_ok_and(|meta| meta.uid() == uid.as_raw());
        if !ours {
            continue;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SharedMemoryError::File {
                    name: name.clone(),
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(())
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
