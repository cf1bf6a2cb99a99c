//! Names for connections, so that what the server shows can be told from what other pools have open.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the server keeps of an `application_name`.
const LENGTH_MAX: usize = 63;

/// How many pools of this process have been tagged.
static POOLS: AtomicU64 = AtomicU64::new(0);

/// Gives out names of the form `name/process-pool/connection`.
#[derive(Debug)]
pub(super) struct Tag {
    name: String,
    /// `process-pool`: unique among the pools that have this name and run on this machine.
    pool: String,
    next: AtomicU64,
}

impl Tag {
    pub(super) fn new(name: &str) -> Self {
        let pool = POOLS.fetch_add(1, Ordering::Relaxed) + 1;
        Self {
            // A slash would make the parts ambiguous.
            name: name.replace('/', "_"),
            pool: format!("{}-{pool}", std::process::id()),
            next: AtomicU64::new(0),
        }
    }

    /// Returns the name for the next connection. It is not longer than the server keeps: what must be
    /// left out is left out of the name's end, so that the rest always tells connections apart.
    pub(super) fn next(&self) -> String {
        let ordinal = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let rest = format!("/{}/{ordinal}", self.pool);
        let room = LENGTH_MAX.saturating_sub(rest.len());
        let end = self.name.floor_char_boundary(room.min(self.name.len()));
        format!("{}{rest}", &self.name[..end])
    }

    /// Returns the part that is the same for all connections of the pool and no others.
    pub(super) fn pool(&self) -> &str {
        &self.pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_name_of_its_own_and_each_pool() {
        let (one, other) = (Tag::new("shop"), Tag::new("shop"));
        let names = [one.next(), one.next(), other.next()];
        let process = std::process::id();
        for (name, ordinal) in names.iter().zip([1, 2, 1]) {
            let parts: Vec<&str> = name.split('/').collect();
            assert_eq!((parts[0], parts[2]), ("shop", &*ordinal.to_string()));
            assert!(parts[1].starts_with(&format!("{process}-")), "{name}");
        }
        assert_ne!(one.pool(), other.pool());
        assert_eq!(names[0], format!("shop/{}/1", one.pool()));
    }

    #[test]
    fn a_long_name_is_cut_and_not_what_tells_connections_apart() {
        let tag = Tag::new(&"ä/".repeat(40));
        tag.next.store(u64::MAX - 2, Ordering::Relaxed);
        let name = tag.next();
        assert!(
            name.len() <= LENGTH_MAX && name.len() > LENGTH_MAX - 2,
            "{name}"
        );
        assert!(
            name.ends_with(&format!("/{}/{}", tag.pool(), u64::MAX - 1)),
            "{name}"
        );
        assert_eq!(name.matches('/').count(), 2, "{name}");
    }
}
