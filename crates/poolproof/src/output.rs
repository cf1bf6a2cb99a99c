//! Writing to standard output and standard error, where somebody may have stopped reading.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use poolproof_report::{Color, TerminalStyle};
use terminal_size::{Height, Width, terminal_size_of};

use crate::exit;

/// Names the file that the steps of a job in GitHub's CI and its relatives write their summary to.
const JOB_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Columns where no terminal says how many it has.
const WIDTH: usize = 100;

/// Writes to standard output. A reader that has gone away is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    tolerate_gone_reader(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Writes to standard error, as far as that is possible: there is nowhere to complain.
pub(crate) fn tell(text: &str) {
    let mut err = io::stderr().lock();
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}

/// Writes to a file, or to standard output for `-`. What stands in the summary of a CI job stays.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    if is_standard(path) {
        print(text)
    } else if is_job_summary(path) {
        let mut file = fs::OpenOptions::new().append(true).open(path)?;
        // A heading needs a blank line before it, however the text of another step ended.
        file.write_all(format!("\n\n{text}").as_bytes())
    } else {
        fs::write(path, text)
    }
}

/// Tells whether a path leads to the summary that the steps of a CI job share.
fn is_job_summary(path: &Path) -> bool {
    let Some(summary) = std::env::var_os(JOB_SUMMARY) else {
        return false;
    };
    match (fs::canonicalize(path), fs::canonicalize(summary)) {
        (Ok(path), Ok(summary)) => path == summary,
        // A file that is not there holds nothing.
        _ => false,
    }
}

/// Tells whether a path means standard input or output.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Shows clap's own message, help included, and returns its exit code.
pub(crate) fn usage(message: &clap::Error) -> u8 {
    let code = u8::try_from(message.exit_code()).unwrap_or(exit::USAGE);
    if code == exit::OK {
        // Help and version. A closed stream changes nothing about the exit code.
        drop(message.print());
        return code;
    }
    let text = message.render();
    let text = match stderr_style().color {
        Color::Always => text.ansi().to_string(),
        Color::Never => text.to_string(),
    };
    tell(&without_passwords(&text));
    code
}

/// Puts `***` in place of passwords: messages repeat what they do not understand, and somebody may have
/// written a URL, or a part of one, where something else belongs.
pub(crate) fn without_passwords(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| {
            let end = word.trim_end().len();
            let (word, space) = word.split_at(end);
            hide_parameter(&hide_login(word)) + space
        })
        .collect()
}

/// Hides what stands between a user's colon and the host: `postgres://u:***@host/db`, `u:***@host`.
fn hide_login(word: &str) -> String {
    let start = word.find("://").map_or(0, |at| at + 3);
    let login = &word[start..];
    match (login.find(':'), login.rfind('@')) {
        (Some(colon), Some(host)) if colon < host => {
            format!(
                "{}{}:***{}",
                &word[..start],
                &login[..colon],
                &login[host..]
            )
        }
        _ => word.to_owned(),
    }
}

/// Hides the value of `password=…`, as far as it may go.
fn hide_parameter(word: &str) -> String {
    const NAME: &str = "password=";
    match word.to_ascii_lowercase().find(NAME) {
        Some(at) => {
            let (before, value) = word.split_at(at + NAME.len());
            let end = value.find(['&', '\'', '"']).unwrap_or(value.len());
            format!("{before}***{}", &value[end..])
        }
        None => word.to_owned(),
    }
}

/// How the verdict should look on standard output.
pub(crate) fn stdout_style() -> TerminalStyle {
    TerminalStyle {
        color: color_if(wants_color(io::stdout().is_terminal())),
        width: width(terminal_size_of(io::stdout())),
    }
}

/// Tells whether standard error is a terminal that shows colours, and how wide it is.
pub(crate) fn stderr_style() -> TerminalStyle {
    TerminalStyle {
        color: color_if(wants_color(io::stderr().is_terminal())),
        width: width(terminal_size_of(io::stderr())),
    }
}

fn width(size: Option<(Width, Height)>) -> usize {
    size.map_or(WIDTH, |(Width(columns), _)| usize::from(columns))
}

fn color_if(wanted: bool) -> Color {
    if wanted { Color::Always } else { Color::Never }
}

/// See <https://no-color.org>: any value but the empty one switches colour off.
fn wants_color(is_terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    is_terminal && !refused && !dumb
}

fn tolerate_gone_reader(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let text = "unexpected argument 'postgres://app:s3:cr@et@host/db' found, see http://x/y";
        assert_eq!(
            without_passwords(text),
            "unexpected argument 'postgres://app:***@host/db' found, see http://x/y"
        );
        for (text, shown) in [
            ("a://u@h b://h:1/d", "a://u@h b://h:1/d"),
            (
                "u:s3cret@127.0.0.1/shop is no file",
                "u:***@127.0.0.1/shop is no file",
            ),
            (
                "host=x password=s3cret user=y",
                "host=x password=*** user=y",
            ),
            (
                "\"postgres://h/d?a=1&Password=s3&b=2\"",
                "\"postgres://h/d?a=1&Password=***&b=2\"",
            ),
            ("at 127.0.0.1:8474, 3:4", "at 127.0.0.1:8474, 3:4"),
            ("me@example.org", "me@example.org"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }
}
