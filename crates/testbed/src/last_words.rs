//! What a server printed before it ended, understood.

use std::collections::BTreeMap;

use crate::cluster::RefusedSetting;

/// Enough for the cause; the whole log of a server that dies at its start has about ten lines.
const LOG_TAIL_LINES: usize = 20;

/// Which settings the server does not accept, and what it says, without its line prefix.
///
/// It names a setting that is wrong by itself. One that does not go with the others, or with this
/// machine, is found by its name or its value in the last words or the hint beneath them.
pub(crate) fn refused_settings(
    log: &str,
    chosen: &BTreeMap<String, String>,
) -> Vec<RefusedSetting> {
    let said = |marks: &'static [&str]| {
        log.lines()
            .filter_map(|line| marks.iter().find_map(|mark| line.split_once(mark)))
            // The file is a copy that the user never sees.
            .map(|(_, text)| text.split(" in file \"").next().unwrap_or(text))
    };
    let by_itself: Vec<_> = said(&["LOG:  ", "FATAL:  ", "ERROR:  "])
        .filter_map(|text| {
            let (_, name) = text.split_once("parameter \"")?;
            Some(RefusedSetting {
                name: name.split('"').next()?.to_ascii_lowercase(),
                message: text.to_owned(),
            })
        })
        .collect();
    if !by_itself.is_empty() {
        return by_itself;
    }
    let last_words: Vec<_> = said(&["FATAL:  ", "PANIC:  ", "HINT:  ", "postgres: "]).collect();
    let mentions = |word: &str| last_words.iter().any(|text| has_word(text, word));
    let blamed = chosen.iter().filter(|(name, value)| {
        mentions(&name.to_ascii_lowercase()) || (value.len() > 3 && mentions(value))
    });
    blamed
        .map(|(name, _)| RefusedSetting {
            name: name.to_ascii_lowercase(),
            message: last_words.join("; "),
        })
        .collect()
}

/// Whether `word` stands in `text`, and not as a part of another word.
fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside)
    })
}

pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_setting_is_told_in_the_servers_words() {
        let log = "2026-01-01 00:00:00.000 UTC [1] LOG:  unrecognized configuration parameter \
                   \"max_conections\" in file \"/x/postgresql.conf\" line 820\n\
                   2026-01-01 00:00:00.000 UTC [1] LOG:  invalid value for parameter \"TimeZone\": \"x\"\n\
                   2026-01-01 00:00:00.000 UTC [1] FATAL:  configuration file \"/x/postgresql.conf\" \
                   contains errors\n";
        let refused = |name: &str, message: &str| RefusedSetting {
            name: name.to_owned(),
            message: message.to_owned(),
        };
        let none = BTreeMap::new();
        assert_eq!(
            refused_settings(log, &none),
            [
                refused(
                    "max_conections",
                    "unrecognized configuration parameter \"max_conections\""
                ),
                refused(
                    "timezone",
                    "invalid value for parameter \"TimeZone\": \"x\""
                ),
            ]
        );
        assert_eq!(refused_settings("[1] FATAL:  out of luck\n", &none), []);
    }

    #[test]
    fn a_setting_that_does_not_go_with_the_others_is_blamed_by_its_name_or_value() {
        let chosen =
            |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let log =
            "postgres: superuser_reserved_connections (3) must be less than max_connections (2)\n";
        assert_eq!(
            refused_settings(log, &chosen("max_connections", "2")).len(),
            1
        );
        // A part of another setting's name.
        assert_eq!(refused_settings(log, &chosen("connections", "2")), []);
        let log = "[1] FATAL:  could not access file \"nosuch\": No such file or directory\n";
        let refused = refused_settings(log, &chosen("shared_preload_libraries", "nosuch"));
        assert_eq!(refused[0].name, "shared_preload_libraries");
        assert_eq!(refused_settings(log, &chosen("fsync", "off")), []);
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let tail = tail(&log);
        assert!(tail.starts_with("line 80\n"), "{tail}");
        assert!(tail.ends_with("line 99"), "{tail}");
        assert_eq!(super::tail(""), "");
    }
}
