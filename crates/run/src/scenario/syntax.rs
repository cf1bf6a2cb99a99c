//! What was probably meant where a text is no TOML. The parser says what it expected, in its own terms.

use super::duration::parse_duration;

/// Returns what to write instead of the line at `position`.
pub(super) fn advice(text: &str, position: usize) -> Option<String> {
    let position = text.floor_char_boundary(position);
    let begin = text[..position].rfind('\n').map_or(0, |at| at + 1);
    let line = text[begin..].lines().next()?;
    // In an inline table the pair that the position is in or behind.
    let mut at = begin;
    let pairs = line.split_inclusive(['{', ',']);
    let pair = pairs
        .take_while(|pair| {
            let starts = at;
            at += pair.len();
            starts <= position
        })
        .last()?;
    let pair = if pair.contains('=') { pair } else { line };
    let Some((key, value)) = pair.split_once('=') else {
        return without_equals(line);
    };
    let value = value.split(['#', '}', ']']).next()?.trim();
    let value = value.strip_suffix([',', '{']).unwrap_or(value).trim();
    let key = key.trim_start_matches([' ', '{', ',', '[']).trim_end();
    (!key.is_empty()).then(|| meant(key, value, line))?
}

fn without_equals(line: &str) -> Option<String> {
    let (key, value) = line
        .split('#')
        .next()?
        .trim()
        .split_once(char::is_whitespace)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (key, value) = (key.trim_end_matches(':'), value.trim());
    let both = key.chars().all(plain) && !value.is_empty();
    both.then(|| format!("a key and its value are written `{key} = {value}`"))
}

fn meant(key: &str, value: &str, line: &str) -> Option<String> {
    let write = |value: &str| Some(format!("write `{key} = {value}`"));
    let straight = value.replace(
        ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}'],
        "\"",
    );
    if straight != value {
        return Some(format!("use straight quotes: `{key} = {straight}`"));
    }
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => return write("true"),
        "false" | "no" | "off" => return write("false"),
        _ => {}
    }
    let together = line.split_once('=').map_or("", |(_, value)| value.trim());
    let together = together
        .split('#')
        .next()
        .unwrap_or_default()
        .trim()
        .replace(',', "");
    if !value.is_empty() && together.parse::<u64>().is_ok() {
        return Some(format!(
            "write `{} = {together}`",
            line.split('=').next()?.trim()
        ));
    }
    if value
        .strip_prefix('.')
        .is_some_and(|rest| rest.parse::<u64>().is_ok())
    {
        return write(&format!("0{value}"));
    }
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_word = value.starts_with(|c: char| c.is_ascii_alphabetic()) && value.chars().all(word);
    if is_word || parse_duration(value).is_ok() {
        return Some(format!(
            "words and durations stand in quotes: `{key} = \"{value}\"`"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_said_for_each_slip_of_the_hand() {
        for (line, says) in [
            ("duration = 10s", "`duration = \"10s\"`"),
            ("duration = 10s # long", "`duration = \"10s\"`"),
            ("arrivals = poisson", "`arrivals = \"poisson\"`"),
            ("duration = \u{201c}10s\u{201d}", "`duration = \"10s\"`"),
            ("pre_ping = True", "`pre_ping = true`"),
            ("pre_ping = yes", "`pre_ping = true`"),
            ("rate = 1,000", "`rate = 1000`"),
            ("clean_checks = .5", "`clean_checks = 0.5`"),
            ("rate 400", "`rate = 400`"),
            ("rate: 400", "`rate = 400`"),
            (
                "workload = [{ weight = 1, kind = bank }]",
                "`kind = \"bank\"`",
            ),
            ("settings = { fsync = off }", "`fsync = false`"),
        ] {
            let text = format!("name = \"a\"\n{line}\n");
            let (_, errors) = toml::de::DeTable::parse_recoverable(&text);
            let span = errors[0].span().unwrap();
            let help = advice(&text, span.start).unwrap_or_default();
            assert!(help.contains(says), "{line}: {help}");
        }
        for line in ["duration = 10ss", "rate = 50%", "= 4", "[load"] {
            let text = format!("{line}\n");
            assert_eq!(advice(&text, 0), None, "{line}");
        }
    }
}
