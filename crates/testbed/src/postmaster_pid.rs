//! The lock file of a data directory, as the postmaster writes it.

use std::fs;
use std::path::Path;

/// What `postmaster.pid` says; lines are added to it while the server starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PostmasterPid {
    /// Line 1.
    pub(crate) pid: i32,
    /// Line 7.
    pub(crate) segment: Option<Segment>,
}

/// A SysV shared memory segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) key: u32,
    pub(crate) id: i32,
}

impl PostmasterPid {
    /// Reads the lock file of `data`; none when there is none that can be understood.
    pub(crate) fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        // A negative number is the process of a standalone backend.
        let pid: i32 = lines.next()?.trim().parse().ok()?;
        Some(Self {
            pid: pid.checked_abs()?,
            segment: lines.nth(5).and_then(segment),
        })
    }
}

fn segment(line: &str) -> Option<Segment> {
    let (key, id) = line.trim().split_once(char::is_whitespace)?;
    Some(Segment {
        key: key.parse().ok()?,
        id: id.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_is_read_as_far_as_it_is_written() {
        let whole = "4711\n/data\n1700000000\n54321\n\n127.0.0.1\n 37224519         7\nready   \n";
        assert_eq!(
            PostmasterPid::parse(whole),
            Some(PostmasterPid {
                pid: 4711,
                segment: Some(Segment {
                    key: 37_224_519,
                    id: 7
                })
            })
        );
        let early = "4711\n/data\n1700000000\n";
        assert_eq!(
            PostmasterPid::parse(early),
            Some(PostmasterPid {
                pid: 4711,
                segment: None
            })
        );
        assert_eq!(PostmasterPid::parse(""), None);
        assert_eq!(PostmasterPid::parse("x\n"), None);
    }
}
