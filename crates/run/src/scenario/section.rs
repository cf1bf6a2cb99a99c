//! Walks one table of a scenario file: typed values out, problems with their places aside.
//!
//! A section remembers every key that it was asked for, so that what remains is unknown and the
//! nearest known word can be named.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::Problem;
use super::quantity::parse_duration;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// The problems found so far, shared by all sections of a file.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|p| p.span.start);
        problems
    }
}

/// Words that people use for a key, by what the section calls it.
pub(super) type Synonyms = &'static [(&'static str, &'static str)];

/// One table of the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// How messages call it, such as `[load]`.
    title: String,
    /// Where its header stands.
    span: Range<usize>,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
    synonyms: Cell<Synonyms>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        title: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        problems: &'a Problems,
    ) -> Self {
        Self {
            title,
            span,
            table,
            asked: RefCell::default(),
            synonyms: Cell::new(&[]),
            problems,
        }
    }

    pub(super) fn synonyms(&self, synonyms: Synonyms) {
        self.synonyms.set(synonyms);
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns where the value of `key` stands.
    pub(super) fn span_of(&self, key: &'static str) -> Option<Range<usize>> {
        self.get(key).map(Spanned::span)
    }

    /// Changes how messages call this section, once it is known what it is about.
    pub(super) fn retitle(&mut self, title: String) {
        self.title = title;
    }

    pub(super) fn add(&self, problem: Problem) {
        self.problems.add(problem);
    }

    /// Reports `key` as missing, unless something stands there, right or wrong.
    pub(super) fn require(&self, key: &'static str, example: &str) {
        self.know(key);
        if self.table.get(key).is_none() && !self.has_misspelt(key) {
            self.add(
                Problem::new(
                    self.span(),
                    format!("{} has no `{key}`", self.title),
                    "it belongs in here",
                )
                .help(format!("add a line such as `{example}`")),
            );
        }
    }

    /// Tells whether something stands at `key`, right or wrong.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.know(key);
        self.table.get(key).is_some()
    }

    /// Returns how many problems the file has so far.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.0.borrow().len()
    }

    pub(super) fn string(&self, key: &'static str) -> Option<Found<String>> {
        let found = self.get(key)?;
        match found.get_ref() {
            DeValue::String(text) => Some(self.found(found, text.to_string())),
            DeValue::Integer(n) => self.wrong_type(
                must(key, "a string"),
                found,
                Some(format!("{key} = \"{n}\"")),
            ),
            _ => self.wrong_type(must(key, "a string"), found, None),
        }
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<Found<bool>> {
        let found = self.get(key)?;
        match found.get_ref() {
            DeValue::Boolean(value) => Some(self.found(found, *value)),
            other => {
                let text = match other {
                    DeValue::String(text) => text.to_ascii_lowercase(),
                    DeValue::Integer(n) => n.as_str().to_owned(),
                    _ => String::new(),
                };
                let meant = match text.as_str() {
                    "true" | "yes" | "on" | "1" => Some(true),
                    "false" | "no" | "off" | "0" => Some(false),
                    _ => None,
                };
                let correct = meant.map(|meant| format!("{key} = {meant}"));
                self.wrong_type(must(key, "true or false"), found, correct)
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<Found<i64>> {
        let found = self.get(key)?;
        let value = match found.get_ref() {
            DeValue::Integer(n) => whole(n),
            other => {
                let text = match other {
                    DeValue::String(text) => text.as_ref(),
                    DeValue::Float(n) => n.as_str().trim_end_matches('0').trim_end_matches('.'),
                    _ => "",
                };
                let meant = text.parse().ok().filter(|n| range.contains(n));
                let correct = meant.map(|n: i64| format!("{key} = {n}"));
                return self.wrong_type(must(key, "a whole number"), found, correct);
            }
        };
        let within = value
            .and_then(|v| i64::try_from(v).ok())
            .filter(|v| range.contains(v));
        if within.is_none() {
            let negative = value.is_some_and(|v| v < 0);
            let message = if negative && *range.start() >= 0 {
                format!("`{key}` is negative")
            } else {
                format!("`{key}` is out of range")
            };
            // The smallest of all numbers stands for a limit that the caller checks.
            let help = if *range.start() == i64::MIN {
                format!("`{key}` is at most {}", range.end())
            } else {
                format!("`{key}` is between {} and {}", range.start(), range.end())
            };
            self.add(Problem::new(found.span(), message, "here").help(help));
        }
        within.map(|v| self.found(found, v))
    }

    /// A whole number of at least `least` that fits into 32 bits.
    pub(super) fn count(&self, key: &'static str, least: u32) -> Option<Found<u32>> {
        let found = self.integer(key, i64::from(least)..=i64::from(i32::MAX))?;
        let value = u32::try_from(found.value).expect("bug: the range is within u32");
        Some(Found {
            value,
            span: found.span,
        })
    }

    /// A finite number, with or without decimals.
    pub(super) fn number(&self, key: &'static str) -> Option<Found<f64>> {
        let found = self.get(key)?;
        let text = match found.get_ref() {
            DeValue::Integer(n) => n.as_str(),
            DeValue::Float(n) => n.as_str(),
            DeValue::String(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                let correct = format!("{key} = {text}");
                return self.wrong_type(must(key, "a number"), found, Some(correct));
            }
            _ => return self.wrong_type(must(key, "a number"), found, None),
        };
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Some(self.found(found, value)),
            _ => self.wrong_type(must(key, "a finite decimal number"), found, None),
        }
    }

    pub(super) fn duration(&self, key: &'static str) -> Option<Found<Duration>> {
        let found = self.get(key)?;
        let number = match found.get_ref() {
            DeValue::String(text) => return self.duration_from(key, found, text),
            DeValue::Integer(n) => whole(n).map(|n| n.to_string()),
            DeValue::Float(n) => Some(n.as_str().to_owned()),
            _ => None,
        };
        // What would be refused in its turn is not suggested.
        let correct = number
            .map(|number| format!("{}s", number.trim_start_matches('-')))
            .filter(|text| parse_duration(text).is_ok_and(|duration| !duration.is_zero()))
            .map(|text| format!("{key} = \"{text}\""));
        let wanted = match correct {
            Some(_) => "a duration with a unit",
            None => "a duration, such as \"20s\"",
        };
        self.wrong_type(must(key, wanted), found, correct)
    }

    fn duration_from(
        &self,
        key: &str,
        found: &Spanned<DeValue<'_>>,
        text: &str,
    ) -> Option<Found<Duration>> {
        match parse_duration(text) {
            Ok(duration) => Some(self.found(found, duration)),
            Err(error) => {
                let message = format!("`{key}`: {}", error.message());
                let problem = Problem::new(found.span(), message, "not a duration");
                self.add(problem.help(error.advice()));
                None
            }
        }
    }

    /// A duration above zero.
    pub(super) fn positive_duration(&self, key: &'static str) -> Option<Found<Duration>> {
        let found = self.duration(key)?;
        if found.value.is_zero() {
            self.add(Problem::new(
                found.span,
                format!("`{key}` is zero"),
                "must be longer than nothing",
            ));
            return None;
        }
        Some(found)
    }

    /// One of a few words. `what` names the idea, such as `workload`.
    pub(super) fn word<T: Copy>(
        &self,
        key: &'static str,
        what: &str,
        choices: &Choices<T>,
    ) -> Option<Found<T>> {
        let all = choices.words.iter().map(|(word, _)| format!("`{word}`"));
        let all = all.collect::<Vec<_>>().join(", ");
        let found = self.get(key)?;
        let DeValue::String(text) = found.get_ref() else {
            // A number in quotes would be no such word either.
            let message = must(key, &format!("one of {all}"));
            return self.wrong_type(message, found, None);
        };
        let found = self.found(found, text.to_string());
        let choice = choices.words.iter().find(|(word, _)| *word == found.value);
        if let Some((_, value)) = choice {
            return Some(Found {
                value: *value,
                span: found.span,
            });
        }
        let words = || choices.words.iter().map(|(word, _)| *word);
        let meant =
            synonym(choices.synonyms, &found.value).or_else(|| nearest(&found.value, words()));
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`? There are {all}"),
            None => format!("there are {all}"),
        };
        let message = format!("unknown {what} `{}`", found.value);
        self.add(Problem::new(found.span, message, "not known").help(help));
        None
    }

    /// The table at `key`.
    pub(super) fn table(&self, key: &'static str) -> Option<Section<'a>> {
        let (key_span, found) = self.entry(key)?;
        match found.get_ref() {
            DeValue::Table(table) => Some(Section::new(
                self.title_of(key),
                header(key_span, found.span()),
                table,
                self.problems,
            )),
            DeValue::Array(_) => {
                self.add(
                    Problem::new(key_span, format!("`{key}` stands once"), "a list")
                        .help(format!("write `[{key}]` with single brackets")),
                );
                None
            }
            _ => self.wrong_type(must(key, "a table"), found, None),
        }
    }

    /// The tables `[[key]]`; none when there is no such key.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some((key_span, found)) = self.entry(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = found.get_ref() else {
            self.add(
                Problem::new(key_span, format!("`{key}` is a list"), "stands alone").help(format!(
                    "write `{}` with double brackets",
                    self.list_title(key)
                )),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(
                    self.list_title(key),
                    item.span(),
                    table,
                    self.problems,
                )),
                _ => {
                    self.wrong_type::<()>(must(key, "a list of tables"), item, None);
                }
            }
        }
        sections
    }

    /// All entries, as text, for a table whose keys are not ours.
    pub(super) fn scalars(&self) -> BTreeMap<String, Found<String>> {
        let mut entries = BTreeMap::new();
        for (key, value) in self.table {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(n) if whole(n).is_some() => {
                    whole(n).map_or(String::new(), |n| n.to_string())
                }
                DeValue::Float(n) => n.as_str().to_owned(),
                DeValue::Boolean(true) => "on".to_owned(),
                DeValue::Boolean(false) => "off".to_owned(),
                _ => {
                    self.wrong_type::<()>(
                        must(key.get_ref(), "a string, number or boolean"),
                        value,
                        None,
                    );
                    continue;
                }
            };
            let found = Found {
                value: text,
                span: key.span().start..value.span().end,
            };
            entries.insert(key.get_ref().to_string(), found);
        }
        entries
    }

    /// Reports every key that nobody asked for. `elsewhere` says where a key would belong.
    pub(super) fn finish(&self, elsewhere: impl Fn(&str) -> Option<String>) {
        for key in self.table.keys() {
            let word = key.get_ref().as_ref();
            let asked = self.asked.borrow();
            if asked.contains(&word) {
                continue;
            }
            let meant = self.meant(word);
            let help = match (meant, elsewhere(word)) {
                (_, Some(place)) => place,
                (Some(meant), None) => format!("did you mean `{meant}`?"),
                (None, None) => format!(
                    "the keys of {} are {}",
                    self.title,
                    asked
                        .iter()
                        .map(|k| format!("`{k}`"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            };
            let message = format!("unknown key `{word}` in {}", self.title);
            self.add(Problem::new(key.span(), message, "not known here").help(help));
        }
    }

    fn meant(&self, word: &str) -> Option<&'static str> {
        let asked = self.asked.borrow();
        synonym(self.synonyms.get(), word)
            .filter(|meant| asked.contains(meant))
            .or_else(|| nearest(word, asked.iter().copied()))
    }

    /// A key that means `key` stands here under another name: reporting it as unknown is enough.
    fn has_misspelt(&self, key: &'static str) -> bool {
        self.table.keys().any(|present| {
            let word = present.get_ref().as_ref();
            synonym(self.synonyms.get(), word) == Some(key)
                || nearest(word, std::iter::once(key)).is_some()
        })
    }

    fn know(&self, key: &'static str) {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.know(key);
        self.table.get(key)
    }

    fn entry(&self, key: &'static str) -> Option<(Range<usize>, &'a Spanned<DeValue<'a>>)> {
        self.know(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some((name.span(), value))
    }

    fn found<T>(&self, at: &Spanned<DeValue<'_>>, value: T) -> Found<T> {
        Found {
            value,
            span: at.span(),
        }
    }

    fn wrong_type<T>(
        &self,
        message: String,
        found: &Spanned<DeValue<'_>>,
        correct: Option<String>,
    ) -> Option<T> {
        let is = match found.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let mut problem = Problem::new(found.span(), message, &format!("this is {is}"));
        if let Some(correct) = correct {
            problem = problem.help(format!("did you mean `{correct}`?"));
        }
        self.add(problem);
        None
    }

    fn title_of(&self, key: &str) -> String {
        match self.path() {
            "" => format!("[{key}]"),
            path => format!("[{path}.{key}]"),
        }
    }

    fn list_title(&self, key: &str) -> String {
        match self.path() {
            "" => format!("[[{key}]]"),
            path => format!("[[{path}.{key}]]"),
        }
    }

    fn path(&self) -> &str {
        if self.title.starts_with('[') {
            self.title.trim_matches(['[', ']'])
        } else {
            ""
        }
    }
}

/// The words that a key may have.
#[derive(Debug)]
pub(super) struct Choices<T: 'static> {
    pub(super) words: &'static [(&'static str, T)],
    pub(super) synonyms: Synonyms,
}

/// Returns the word that `typed` was probably meant to be.
pub(super) fn nearest<'w>(typed: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let typed = typed.to_lowercase().replace('_', "-");
    words
        .map(|word| {
            let distance = strsim::damerau_levenshtein(&typed, &word.replace('_', "-"));
            (distance, word)
        })
        .filter(|(distance, word)| *distance <= (word.len().max(typed.len()) / 3).max(1))
        .filter(|(distance, word)| *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn whole(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

fn must(key: &str, wanted: &str) -> String {
    format!("`{key}` must be {wanted}")
}

fn synonym(synonyms: Synonyms, typed: &str) -> Option<&'static str> {
    let typed = typed.to_lowercase().replace('_', "-");
    synonyms
        .iter()
        .find(|(word, _)| word.replace('_', "-") == typed)
        .map(|(_, meant)| *meant)
}

/// Where a table's header stands: the key for `[key]`, the whole for an inline table.
fn header(key: Range<usize>, value: Range<usize>) -> Range<usize> {
    if value.contains(&key.start) {
        value
    } else {
        key
    }
}
