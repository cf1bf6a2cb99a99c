//! Reads the value of a key by what the key holds, and says what is wrong with another.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::duration::parse_duration;
use super::key::{Bounds, Key, Quantity, Word};
use super::problem::{Problem, Problems};
use super::values::Value;
use super::words::{listed, meant};
use super::{section, settings};

/// Reads the value of a key that is no table; none, with a problem, where it is no such value.
pub(super) fn value(key: &Key, found: &Spanned<DeValue<'_>>, problems: &Problems) -> Option<Value> {
    let at = At {
        key,
        found,
        problems,
    };
    match key.quantity {
        Quantity::Name => at.name().map(Value::Text),
        Quantity::Text | Quantity::Label => at.text().map(Value::Text),
        Quantity::Flag => at.flag().map(Value::Flag),
        Quantity::Integer { least, most } => at.integer(least..=most).map(Value::Integer),
        Quantity::Number(bounds) => at.number(bounds).map(Value::Number),
        Quantity::Duration { zero } => at.duration(zero).map(Value::Duration),
        Quantity::Word(words) => at.word(words.what, words.all).map(Value::Word),
        Quantity::Kind(kinds) => {
            let words: Vec<Word> = (kinds.all)().iter().map(|kind| kind.name).collect();
            at.word(kinds.what, &words).map(Value::Word)
        }
        Quantity::Settings => at.settings(),
        Quantity::Table(_) | Quantity::Tables(_) => panic!("bug: `{}` is a table", key.name),
    }
}

/// Returns the value that a default's text stands for.
pub(super) fn default(key: &Key, text: &str) -> Value {
    let wrong = || -> ! { panic!("bug: {text:?} is no default for `{}`", key.name) };
    let problems = Problems::default();
    let value = match key.quantity {
        Quantity::Table(table) => {
            let document = DeTable::parse(text).unwrap_or_else(|_| wrong());
            Some(Value::Table(section::read(
                table,
                0..0,
                document.get_ref(),
                &problems,
            )))
        }
        _ => {
            let line = format!("it = {}", default_toml(key, text));
            let document = DeTable::parse(&line).unwrap_or_else(|_| wrong());
            value(key, &document.get_ref()["it"], &problems)
        }
    };
    let value = value.filter(|_| problems.count() == 0);
    value.unwrap_or_else(|| wrong())
}

/// Returns a default's text as a file would have it.
pub(super) fn default_toml(key: &Key, text: &str) -> String {
    match key.quantity {
        Quantity::Integer { .. } | Quantity::Number(_) | Quantity::Flag => text.to_owned(),
        Quantity::Table(_) => format!("{{ {text} }}"),
        _ => format!("\"{text}\""),
    }
}

/// Returns what is said of a value of another type. `correct` is what was probably meant.
pub(super) fn wrong_type(
    key: &str,
    wanted: &str,
    found: &Spanned<DeValue<'_>>,
    correct: Option<String>,
) -> Problem {
    let is = match found.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let message = format!("`{key}` must be {wanted}");
    let problem = Problem::new(found.span(), message, &format!("this is {is}"));
    match correct {
        Some(correct) => problem.help(format!("did you mean `{key} = {correct}`?")),
        None => problem,
    }
}

/// Returns a whole number in whatever base it is written.
pub(super) fn whole(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A value where it stands, and the key that it stands at.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    key: &'a Key,
    found: &'a Spanned<DeValue<'a>>,
    problems: &'a Problems,
}

impl At<'_> {
    fn text(self) -> Option<String> {
        match self.found.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(n) => self.wrong_type("a string", Some(format!("\"{n}\""))),
            _ => self.wrong_type("a string", None),
        }
    }

    fn name(self) -> Option<String> {
        let name = self.text()?;
        let plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        let ok = name.chars().all(plain)
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= 64
            && name != "latest";
        if ok {
            return Some(name);
        }
        let message = format!("{name:?} cannot be a scenario's name");
        let help = "use up to 64 lowercase letters, digits, `-` and `_`; `latest` is taken";
        self.refuse(message, "names a folder of reports", Some(help.to_owned()))
    }

    fn flag(self) -> Option<bool> {
        let text = match self.found.get_ref() {
            DeValue::Boolean(value) => return Some(*value),
            DeValue::String(text) => text.to_ascii_lowercase(),
            DeValue::Integer(n) => n.as_str().to_owned(),
            _ => String::new(),
        };
        let correct = match text.as_str() {
            "true" | "yes" | "on" | "1" => Some("true".to_owned()),
            "false" | "no" | "off" | "0" => Some("false".to_owned()),
            _ => None,
        };
        self.wrong_type("true or false", correct)
    }

    fn integer(self, range: RangeInclusive<i64>) -> Option<i64> {
        let value = match self.found.get_ref() {
            DeValue::Integer(n) => whole(n),
            other => {
                let text = match other {
                    DeValue::String(text) => text.as_ref(),
                    DeValue::Float(n) => n.as_str().trim_end_matches('0').trim_end_matches('.'),
                    _ => "",
                };
                let meant: Option<i64> = text.parse().ok().filter(|n| range.contains(n));
                return self.wrong_type("a whole number", meant.map(|n| n.to_string()));
            }
        };
        let within = value.and_then(|v| i64::try_from(v).ok());
        let within = within.filter(|v| range.contains(v));
        if within.is_some() {
            return within;
        }
        let value = value.unwrap_or(i128::MAX);
        let name = self.key.name;
        let message = match value < 0 && *range.start() >= 0 {
            true => format!("`{name}` is negative"),
            false => format!("`{name}` is out of range"),
        };
        let help = format!("`{name}` is between {} and {}", range.start(), range.end());
        let plain = Problem::new(self.found.span(), message, "here").help(help);
        self.outside(value as f64, plain)
    }

    fn number(self, bounds: Bounds) -> Option<f64> {
        let text = match self.found.get_ref() {
            DeValue::Integer(n) => n.as_str(),
            DeValue::Float(n) => n.as_str(),
            DeValue::String(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                return self.wrong_type("a number", Some(text.to_string()));
            }
            _ => return self.wrong_type("a number", None),
        };
        let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()) else {
            return self.wrong_type("a finite decimal number", None);
        };
        let (within, range) = match bounds {
            Bounds::AboveZero => (value > 0.0, "a number above zero"),
            Bounds::Fraction => ((0.0..=1.0).contains(&value), "a fraction between 0 and 1"),
        };
        if within {
            return Some(value);
        }
        let message = format!("`{}` is {range}", self.key.name);
        let plain = Problem::new(self.found.span(), message, "out of range");
        self.outside(value, plain)
    }

    fn duration(self, zero: bool) -> Option<Duration> {
        let number = match self.found.get_ref() {
            DeValue::String(text) => return self.duration_from(text, zero),
            DeValue::Integer(n) => whole(n).map(|n| n.to_string()),
            DeValue::Float(n) => Some(n.as_str().to_owned()),
            _ => None,
        };
        // What would be refused in its turn is not suggested.
        let correct = number
            .map(|number| format!("{}s", number.trim_start_matches('-')))
            .filter(|text| parse_duration(text).is_ok_and(|duration| !duration.is_zero()))
            .map(|text| format!("\"{text}\""));
        let wanted = match correct {
            Some(_) => "a duration with a unit",
            None => "a duration, such as \"20s\"",
        };
        self.wrong_type(wanted, correct)
    }

    fn duration_from(self, text: &str, zero: bool) -> Option<Duration> {
        let name = self.key.name;
        match parse_duration(text) {
            Ok(duration) if duration.is_zero() && !zero => self.refuse(
                format!("`{name}` is zero"),
                "must be longer than nothing",
                None,
            ),
            Ok(duration) => Some(duration),
            Err(error) => {
                let message = format!("`{name}`: {}", error.message());
                self.refuse(message, "not a duration", Some(error.advice()))
            }
        }
    }

    fn word(self, what: &str, words: &[Word]) -> Option<&'static str> {
        let all = listed(words.iter().map(|word| word.word));
        let DeValue::String(text) = self.found.get_ref() else {
            // A number in quotes would be no such word either.
            return self.wrong_type(&format!("one of {all}"), None);
        };
        let choice = words.iter().find(|word| word.word == text);
        if let Some(choice) = choice {
            return Some(choice.word);
        }
        let help = match meant(text, words) {
            Some(meant) => format!("did you mean `{meant}`? There are {all}"),
            None => format!("there are {all}"),
        };
        self.refuse(format!("unknown {what} `{text}`"), "not known", Some(help))
    }

    fn settings(self) -> Option<Value> {
        let DeValue::Table(table) = self.found.get_ref() else {
            return self.wrong_type("a table", None);
        };
        Some(Value::Settings(settings::read(table, self.problems)))
    }

    /// Reports a number out of range: by what the key has to say of it, or else plainly.
    fn outside<T>(self, value: f64, plain: Problem) -> Option<T> {
        let explained = |explain: fn(f64, Range<usize>) -> _| explain(value, self.found.span());
        let explained = self.key.explain.and_then(explained);
        self.problems.add(explained.unwrap_or(plain));
        None
    }

    fn refuse<T>(self, message: String, label: &str, help: Option<String>) -> Option<T> {
        let mut problem = Problem::new(self.found.span(), message, label);
        problem.help = help;
        self.problems.add(problem);
        None
    }

    fn wrong_type<T>(self, wanted: &str, correct: Option<String>) -> Option<T> {
        let problem = wrong_type(self.key.name, wanted, self.found, correct);
        self.problems.add(problem);
        None
    }
}
