//! Server settings: what a scenario may set, and how it is written down.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Settings by which a cluster is found, reached and read, and the directives that would read other
/// files; they are not a scenario's to choose. In lower case; the server takes them in any.
pub const RESERVED_SETTINGS: [&str; 17] = [
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "include",
    "include_dir",
    "include_if_exists",
    "lc_messages",
    "listen_addresses",
    "log_destination",
    "logging_collector",
    "port",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
];

/// What every cluster is set to unless a scenario says otherwise.
///
/// `fsync` is not here: it is on by default, and an oracle of durability rests on it.
const DEFAULTS: [(&str, &str); 2] = [
    ("max_connections", "100"),
    // Files in the data directory, so that nothing is left in /dev/shm.
    ("dynamic_shared_memory_type", "mmap"),
];

/// Why a setting cannot be written down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// It is chosen by the testbed.
    #[error("set {name}: poolproof chooses it for each cluster")]
    Reserved {
        /// The setting.
        name: String,
    },
    /// No setting can have this name.
    #[error("set {name:?}: a setting's name consists of letters, digits, underscores and dots")]
    Name {
        /// The name.
        name: String,
    },
    /// Its value cannot be written into a configuration file.
    #[error("set {name}: its value holds a NUL character")]
    Value {
        /// The setting.
        name: String,
    },
}

/// Returns the lines to append to `postgresql.conf`; later lines win over earlier ones.
pub(crate) fn lines(
    chosen: &BTreeMap<String, String>,
    cluster_name: &str,
) -> Result<String, SettingError> {
    let mut text = String::from("\n# poolproof\n");
    let mut put = |name: &str, value: &str| {
        writeln!(text, "{name} = '{}'", quoted(value)).expect("bug: writing to a String failed");
    };
    for (name, value) in DEFAULTS {
        put(name, value);
    }
    for (name, value) in chosen {
        check_setting(name, value)?;
        put(name, value);
    }
    put("listen_addresses", "127.0.0.1");
    put("unix_socket_directories", "");
    put("log_destination", "stderr");
    put("logging_collector", "off");
    put("cluster_name", cluster_name);
    Ok(text)
}

/// Checks that a cluster may be told to set `name` to `value`, as far as that can be told without a
/// server. Names are the same in any case, as they are for the server.
///
/// # Errors
/// [`SettingError`] when the testbed itself decides it, or it cannot be written down.
pub fn check_setting(name: &str, value: &str) -> Result<(), SettingError> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let name_is_fine = name.starts_with(letter)
        && name
            .chars()
            .all(|c| letter(c) || c.is_ascii_digit() || c == '.' || c == '$');
    let name = name.to_owned();
    if !name_is_fine {
        return Err(SettingError::Name { name });
    }
    if RESERVED_SETTINGS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(SettingError::Reserved { name });
    }
    if value.contains('\0') {
        return Err(SettingError::Value { name });
    }
    Ok(())
}

fn quoted(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('\'', "''")
        .replace('\n', r"\n")
        .replace('\r', r"\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_chosen_setting_comes_after_the_default_and_wins() {
        let text = lines(&chosen("max_connections", "20"), "c").unwrap();
        let default = text.find("max_connections = '100'").unwrap();
        let chosen = text.find("max_connections = '20'").unwrap();
        assert!(default < chosen);
    }

    #[test]
    fn a_value_cannot_break_out_of_its_quotes() {
        let text = lines(&chosen("application_name", "a'\nfsync = 'off\\"), "c").unwrap();
        assert!(
            text.contains(r"application_name = 'a''\nfsync = ''off\\'"),
            "{text}"
        );
        assert!(
            !text.lines().any(|line| line.starts_with("fsync")),
            "{text}"
        );
    }

    #[test]
    fn what_the_testbed_chooses_is_refused_in_any_case() {
        for name in [
            "port",
            "PORT",
            "listen_addresses",
            "data_directory",
            "include",
        ] {
            assert_eq!(
                lines(&chosen(name, "1"), "c"),
                Err(SettingError::Reserved { name: name.into() })
            );
        }
        for name in ["", "1a", "a b", "a'", "include 'x'\n"] {
            assert_eq!(
                lines(&chosen(name, "1"), "c"),
                Err(SettingError::Name { name: name.into() })
            );
        }
        assert_eq!(
            lines(&chosen("work_mem", "1\0"), "c"),
            Err(SettingError::Value {
                name: "work_mem".into()
            })
        );
    }

    #[test]
    fn nothing_turns_fsync_off_by_default() {
        assert!(!lines(&BTreeMap::new(), "c").unwrap().contains("fsync"));
    }
}
