//! What to install on this system to have a Postgres.

use std::fs;

/// Returns the sentence that says how to install Postgres on this system.
#[must_use]
pub fn install_hint() -> String {
    if cfg!(target_os = "macos") {
        return hint("brew install postgresql@17");
    }
    // `/usr/lib` holds the file where `/etc` has no link to it.
    let release = fs::read_to_string("/etc/os-release")
        .or_else(|_absent| fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    command_for(&release).map_or_else(
        || {
            "install the PostgreSQL server (the programs postgres, initdb and pg_ctl), \
             or set POOLPROOF_PG_BIN to the directory that holds them"
                .to_owned()
        },
        hint,
    )
}

fn hint(command: &str) -> String {
    format!(
        "install the PostgreSQL server: {command} \
         (or set POOLPROOF_PG_BIN to the directory that holds postgres, initdb and pg_ctl)"
    )
}

/// The command that installs the server on the system that `os_release` describes.
fn command_for(os_release: &str) -> Option<&'static str> {
    let value = |key: &str| {
        os_release
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.trim().trim_matches(['"', '\'']))
    };
    let names = value("ID")
        .into_iter()
        .chain(value("ID_LIKE").into_iter().flat_map(str::split_whitespace));
    names.into_iter().find_map(|name| match name {
        "debian" | "ubuntu" => Some("sudo apt-get install postgresql"),
        "fedora" | "rhel" | "centos" | "amzn" => Some("sudo dnf install postgresql-server"),
        "alpine" => Some("sudo apk add postgresql"),
        "arch" => Some("sudo pacman -S postgresql"),
        "suse" | "opensuse" => Some("sudo zypper install postgresql-server"),
        "nixos" => Some("nix-shell -p postgresql"),
        "freebsd" => Some("sudo pkg install postgresql17-server"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_gets_its_own_command() {
        let cases = [
            ("ID=debian\n", Some("sudo apt-get install postgresql")),
            (
                "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                Some("sudo apt-get install postgresql"),
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Some("sudo dnf install postgresql-server"),
            ),
            ("ID=alpine\n", Some("sudo apk add postgresql")),
            (
                "ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n",
                Some("sudo zypper install postgresql-server"),
            ),
            ("ID=plan9\n", None),
            ("", None),
        ];
        for (release, expected) in cases {
            assert_eq!(command_for(release), expected, "{release}");
        }
    }
}
