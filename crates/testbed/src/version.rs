//! Version of a Postgres server, as `postgres --version` prints it.

use std::fmt;

/// Version of a Postgres server. Pre-releases (`19beta1`) count as minor version 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Version {
    /// Reads the version out of what `postgres --version` prints; none when there is none in it.
    pub(crate) fn parse(answer: &str) -> Option<Self> {
        // `postgres (PostgreSQL) 15.18 (Debian …)`: the word after the first closing bracket.
        let word = answer.split_once(") ")?.1.split_whitespace().next()?;
        let mut parts = word.split('.');
        let (major, release) = leading_number(parts.next()?)?;
        let minor = match parts.next() {
            Some(minor) if release => leading_number(minor)?.0,
            _ => 0,
        };
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The digits that `text` begins with, and whether nothing follows them.
fn leading_number(text: &str) -> Option<(u32, bool)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, end == text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_print_is_understood() {
        let parsed = |text| Version::parse(text).map(|v| (v.major, v.minor));
        let cases = [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some((15, 18)),
            ),
            ("postgres (PostgreSQL) 17.5\n", Some((17, 5))),
            ("postgres (PostgreSQL) 19beta1", Some((19, 0))),
            ("postgres (PostgreSQL) 19devel", Some((19, 0))),
            ("postgres (PostgreSQL) 9.6.24", Some((9, 6))),
            ("postgres (EnterpriseDB) 16.3.0", Some((16, 3))),
            ("bash: postgres: command not found", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn versions_order_by_number_and_not_by_text() {
        let v = |major, minor| Version { major, minor };
        assert!(v(9, 6) < v(15, 2));
        assert!(v(15, 2) < v(15, 18));
    }
}
