//! What a key of a scenario file is: its name, what it holds, and what its absence means.
//!
//! From the keys come the reading of a file with all its messages (`section`), the JSON Schema
//! (`schema`) and the reference (`reference`). The keys themselves stand in `table`, and those
//! that only some kinds of fault or workload have, with their kind.

use std::ops::Range;

use super::problem::Problem;

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) quantity: Quantity,
    /// What a number counts, for the reference.
    pub(super) unit: Option<&'static str>,
    pub(super) presence: Presence,
    /// Words that people use for it.
    pub(super) synonyms: &'static [&'static str],
    pub(super) explain: Option<Explain>,
    /// One or two sentences for whoever writes a file.
    pub(super) doc: &'static str,
}

/// What is said of a number out of range where the limits alone do not say why; none where they do.
pub(super) type Explain = fn(f64, Range<usize>) -> Option<Problem>;

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Quantity {
    /// What a scenario is called: also the name of a folder.
    Name,
    /// What a part of a scenario is called: anything but nothing.
    Label,
    Text,
    Flag,
    Integer {
        least: i64,
        most: i64,
    },
    Number(Bounds),
    /// A number and a unit in quotes.
    Duration {
        /// Whether it may be zero.
        zero: bool,
    },
    Word(&'static Words),
    /// The word that decides which further keys a table has.
    Kind(&'static Kinds),
    /// One table.
    Table(&'static Table),
    /// A list of tables.
    Tables(&'static Table),
    /// Settings of the server: names that are not ours.
    Settings,
}

/// Between what a number lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bounds {
    AboveZero,
    /// Between 0 and 1, both included.
    Fraction,
}

/// What it means that a key is absent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Presence {
    /// The file has a mistake, which a line like this mends.
    Required { example: &'static str },
    /// As if this stood there: TOML without quotes; for a table, its lines.
    Default(&'static str),
    /// Something that no value could say, in a few words.
    Otherwise(&'static str),
}

/// A list of words of which one may stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    /// What such a word names, for messages.
    pub(super) what: &'static str,
    pub(super) all: &'static [Word],
}

/// One word, and words that people use for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    pub(super) word: &'static str,
    pub(super) synonyms: &'static [&'static str],
    pub(super) doc: &'static str,
}

/// One table of the file, or one of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// How files and messages call it, such as `[load]`.
    pub(super) header: &'static str,
    /// What one of a list is, where messages call it by its `name`.
    pub(super) named: Option<&'static str>,
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
    /// What is said of a key that nothing is known of.
    pub(super) stray: Option<fn(&str) -> String>,
}

/// The kinds that a table can be of.
#[derive(Debug)]
pub(super) struct Kinds {
    /// What such a word names, for messages.
    pub(super) what: &'static str,
    /// The kinds, in the order in which they are listed.
    pub(super) all: fn() -> Vec<Kind>,
    /// What is said of a key that only other kinds have.
    pub(super) misplaced: fn(&Misplaced<'_>) -> Problem,
}

/// One kind, and the keys that it has beside those of its table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: Word,
    pub(super) keys: &'static [Key],
}

/// A key in a table of a kind that does not have it.
#[derive(Debug)]
pub(super) struct Misplaced<'a> {
    pub(super) key: &'a str,
    pub(super) key_span: Range<usize>,
    pub(super) value_span: Range<usize>,
    /// How messages call the table.
    pub(super) title: &'a str,
    /// The kinds that have it, as messages list them.
    pub(super) owners: String,
    /// The kind that the table is of.
    pub(super) kind: &'static str,
}

impl Key {
    /// A key whose absence means just that. What it means otherwise is said by the methods below.
    pub(super) const fn new(name: &'static str, quantity: Quantity, doc: &'static str) -> Self {
        Self {
            name,
            quantity,
            unit: None,
            presence: Presence::Otherwise("none"),
            synonyms: &[],
            explain: None,
            doc,
        }
    }

    pub(super) const fn required(self, example: &'static str) -> Self {
        let presence = Presence::Required { example };
        Self { presence, ..self }
    }

    pub(super) const fn default(self, text: &'static str) -> Self {
        let presence = Presence::Default(text);
        Self { presence, ..self }
    }

    pub(super) const fn otherwise(self, meaning: &'static str) -> Self {
        let presence = Presence::Otherwise(meaning);
        Self { presence, ..self }
    }

    pub(super) const fn also(self, synonyms: &'static [&'static str]) -> Self {
        Self { synonyms, ..self }
    }

    pub(super) const fn unit(self, unit: &'static str) -> Self {
        let unit = Some(unit);
        Self { unit, ..self }
    }

    pub(super) const fn explain(self, explain: Explain) -> Self {
        let explain = Some(explain);
        Self { explain, ..self }
    }

    pub(super) const fn is_required(&self) -> bool {
        matches!(self.presence, Presence::Required { .. })
    }
}

impl Quantity {
    /// A whole number from `least` up that fits into 32 bits with a sign.
    pub(super) const fn count(least: i64) -> Self {
        let most = i32::MAX as i64;
        Self::Integer { least, most }
    }

    /// Returns the table that stands at such a key, or of which a list does.
    pub(super) const fn table(self) -> Option<&'static Table> {
        match self {
            Self::Table(table) | Self::Tables(table) => Some(table),
            _ => None,
        }
    }
}

impl Table {
    pub(super) const fn new(header: &'static str, keys: &'static [Key], doc: &'static str) -> Self {
        Self {
            header,
            named: None,
            doc,
            keys,
            stray: None,
        }
    }

    /// Returns the kinds that it can be of; none where all such tables have the same keys.
    pub(super) fn kinds(&self) -> Option<&'static Kinds> {
        self.keys.iter().find_map(|key| match key.quantity {
            Quantity::Kind(kinds) => Some(kinds),
            _ => None,
        })
    }

    /// Returns the keys that only some kinds have, each once.
    pub(super) fn kind_keys(&self) -> Vec<&'static Key> {
        let all = self.kinds().map_or_else(Vec::new, |kinds| (kinds.all)());
        let mut keys: Vec<&'static Key> = Vec::new();
        for key in all.iter().flat_map(|kind| kind.keys) {
            if keys.iter().all(|known| known.name != key.name) {
                keys.push(key);
            }
        }
        keys
    }

    /// Returns itself and the tables within, in the order of the file.
    pub(super) fn all(&'static self) -> Vec<&'static Self> {
        let within = self.keys.iter().filter_map(|key| key.quantity.table());
        std::iter::once(self)
            .chain(within.flat_map(Self::all))
            .collect()
    }
}

impl Kind {
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|own| own.name == key)
    }
}

impl Misplaced<'_> {
    /// Returns the plain problem: the key is not known here.
    pub(super) fn problem(&self, help: String) -> Problem {
        unknown_key(self.key, self.key_span.clone(), self.title).help(help)
    }
}

/// Returns what is said of every key that does not belong where it stands.
pub(super) fn unknown_key(key: &str, span: Range<usize>, title: &str) -> Problem {
    let message = format!("unknown key `{key}` in {title}");
    Problem::new(span, message, "not known here")
}
