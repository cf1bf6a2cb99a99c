//! Walks the tables of a scenario file by their keys: values out, problems with their places aside.
//!
//! What remains is unknown, and the word that was probably meant is named.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, Kind, Misplaced, Presence, Quantity, Table, unknown_key};
use super::problem::{Problem, Problems};
use super::quantity;
use super::table::ROOT;
use super::values::{Found, Value, Values};
use super::words::{is_synonym, listed, nearest};

/// A table as it stands in the file.
#[derive(Debug)]
struct Section<'a> {
    table: &'static Table,
    /// How messages call it.
    title: String,
    /// Where its header stands.
    span: Range<usize>,
    toml: &'a DeTable<'a>,
    problems: &'a Problems,
}

/// A key with what stands there.
#[derive(Debug)]
struct Entry<'a> {
    key: &'static Key,
    name: &'a Spanned<Cow<'a, str>>,
    found: &'a Spanned<DeValue<'a>>,
}

/// Reads a table of the file with all that is in it.
pub(super) fn read(
    table: &'static Table,
    span: Range<usize>,
    toml: &DeTable<'_>,
    problems: &Problems,
) -> Values {
    let mut title = table.header.to_owned();
    if let Some(what) = table.named
        && let Some(DeValue::String(name)) = toml.get("name").map(Spanned::get_ref)
    {
        title = format!("{what} {name:?}");
    }
    let section = Section {
        table,
        title,
        span,
        toml,
        problems,
    };
    section.values()
}

impl Section<'_> {
    fn values(&self) -> Values {
        let before = self.problems.count();
        let mut values = Values {
            span: self.span.clone(),
            ..Values::absent(self.table)
        };
        for key in self.table.keys {
            self.value(key, &mut values);
        }
        values.kind = self.kind(&values);
        let of_kind: Vec<&'static Key> = match values.kind {
            Some(kind) => kind.keys.iter().collect(),
            // Without its kind nobody can say which of these belong here.
            None => self.table.kind_keys(),
        };
        if values.kind.is_some() {
            for key in &of_kind {
                self.value(key, &mut values);
            }
        }
        let known: Vec<_> = self.table.keys.iter().chain(of_kind).collect();
        for (key, value) in self.toml {
            if known.iter().all(|known| known.name != key.get_ref()) {
                let problem = self.stray((key, value), &known, values.kind);
                self.problems.add(problem);
            }
        }
        values.clean = self.problems.count() == before;
        values
    }

    fn kind(&self, values: &Values) -> Option<Kind> {
        let kinds = self.table.kinds()?;
        let word = values.given::<&str>("kind")?.value;
        (kinds.all)()
            .into_iter()
            .find(|kind| kind.name.word == word)
    }

    fn value(&self, key: &'static Key, values: &mut Values) {
        let Some((name, found)) = self.toml.get_key_value(key.name) else {
            self.missing(key);
            return;
        };
        let entry = Entry { key, name, found };
        match self.found(&entry) {
            Some(value) => {
                let span = found.span();
                values.read.insert(key.name, Found { value, span });
            }
            None => values.unread.push(key.name),
        }
    }

    fn found(&self, entry: &Entry<'_>) -> Option<Value> {
        let Entry { key, found, .. } = *entry;
        match key.quantity {
            Quantity::Table(table) => self.table_at(table, entry),
            Quantity::Tables(table) => self.tables_at(table, entry),
            Quantity::Label if is_blank(found.get_ref()) => {
                let what = self.table.named.unwrap_or("table");
                let message = format!("a {what} needs a name");
                self.refuse(Problem::new(found.span(), message, "is empty"))
            }
            _ => quantity::value(key, found, self.problems),
        }
    }

    /// Reports a key as missing where it must stand, unless it stands there under another name:
    /// reporting that one as unknown is enough.
    fn missing(&self, key: &Key) {
        let Presence::Required { example } = key.presence else {
            return;
        };
        let misspelt = self.toml.keys().any(|present| {
            let word = present.get_ref().as_ref();
            is_synonym(word, key.synonyms) || nearest(word, std::iter::once(key.name)).is_some()
        });
        if !misspelt {
            let message = format!("{} has no `{}`", self.title, key.name);
            self.problems.add(
                Problem::new(self.span.clone(), message, "it belongs in here")
                    .help(format!("add a line such as `{example}`")),
            );
        }
    }

    fn table_at(&self, table: &'static Table, entry: &Entry<'_>) -> Option<Value> {
        let Entry { key, name, found } = *entry;
        self.refuse(match found.get_ref() {
            DeValue::Table(toml) => {
                let span = header(name.span(), found.span());
                return Some(Value::Table(read(table, span, toml, self.problems)));
            }
            DeValue::Array(_) => {
                let message = format!("`{}` stands once", key.name);
                Problem::new(name.span(), message, "a list")
                    .help(format!("write `{}` with single brackets", table.header))
            }
            _ => quantity::wrong_type(key.name, "a table", found, None),
        })
    }

    fn tables_at(&self, table: &'static Table, entry: &Entry<'_>) -> Option<Value> {
        let Entry { key, name, found } = *entry;
        let DeValue::Array(items) = found.get_ref() else {
            let message = format!("`{}` is a list", key.name);
            return self.refuse(
                Problem::new(name.span(), message, "stands alone")
                    .help(format!("write `{}` with double brackets", table.header)),
            );
        };
        let mut tables = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(toml) => tables.push(read(table, item.span(), toml, self.problems)),
                _ => {
                    let problem = quantity::wrong_type(key.name, "a list of tables", item, None);
                    self.problems.add(problem);
                }
            }
        }
        // A list of nothing but mistakes is not an empty list.
        let unread = tables.is_empty() && !items.is_empty();
        (!unread).then_some(Value::Tables(tables))
    }

    fn refuse(&self, problem: Problem) -> Option<Value> {
        self.problems.add(problem);
        None
    }

    /// What is said of a key that does not belong here.
    fn stray(
        &self,
        (key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>),
        known: &[&Key],
        kind: Option<Kind>,
    ) -> Problem {
        let word = key.get_ref().as_ref();
        let synonym = known.iter().find(|own| is_synonym(word, own.synonyms));
        if synonym.is_none()
            && let (Some(kinds), Some(kind)) = (self.table.kinds(), kind)
            && let owners = (kinds.all)().into_iter().filter(|other| other.has(word))
            && owners.clone().next().is_some()
        {
            return (kinds.misplaced)(&Misplaced {
                key: word,
                key_span: key.span(),
                value_span: value.span(),
                title: &self.title,
                owners: listed(owners.map(|owner| owner.name.word)),
                kind: kind.name.word,
            });
        }
        let names = || known.iter().map(|key| key.name);
        let meant = |name: &str| format!("did you mean `{name}`?");
        let help = synonym
            .map(|own| meant(own.name))
            .or_else(|| home_of(word))
            .or_else(|| nearest(word, names()).map(meant))
            .or_else(|| self.table.stray.map(|stray| stray(word)))
            .unwrap_or_else(|| format!("the keys of {} are {}", self.title, listed(names())));
        unknown_key(word, key.span(), &self.title).help(help)
    }
}

fn is_blank(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::String(text) if text.trim().is_empty())
}

/// Says where a key belongs that only one table has; those of some kinds only where no other has it.
fn home_of(word: &str) -> Option<String> {
    let has = |keys: &[Key]| keys.iter().any(|key| key.name == word);
    let tables = ROOT.all();
    let mut homes: Vec<_> = tables.iter().filter(|table| has(table.keys)).collect();
    if homes.is_empty() {
        let kinds = |table: &Table| table.kinds().map_or_else(Vec::new, |kinds| (kinds.all)());
        let some_kind = |table: &Table| kinds(table).iter().any(|kind| kind.has(word));
        homes = tables.iter().filter(|table| some_kind(table)).collect();
    }
    let [home] = homes[..] else { return None };
    Some(match home.header.starts_with('[') {
        true => format!("`{word}` belongs under {}", home.header),
        false => format!("`{word}` belongs at the top of the file"),
    })
}

/// Where a table's header stands: the key for `[key]`, the whole for an inline table.
fn header(key: Range<usize>, value: Range<usize>) -> Range<usize> {
    if value.contains(&key.start) {
        value
    } else {
        key
    }
}
