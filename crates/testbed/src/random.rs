//! Secrets and names that nobody can guess. Not for anything that a run has to repeat.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};

/// Returns `bytes` random bytes from the operating system as hexadecimal digits.
pub(crate) fn hex(bytes: usize) -> io::Result<String> {
    let mut buffer = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut buffer)?;
    Ok(to_hex(&buffer))
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("bug: writing to a String failed");
        text
    })
}
