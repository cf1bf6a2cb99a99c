//! What was read of one table of a scenario file, by the names of its keys.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::key::{Key, Kind, Presence, Table};
use super::quantity;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// The value of a key.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Integer(i64),
    Number(f64),
    Duration(Duration),
    Word(&'static str),
    Table(Values),
    Tables(Vec<Values>),
    Settings(BTreeMap<String, String>),
}

/// The values of one table. Asking for a key that the table does not have is a bug, and panics.
#[derive(Debug, Clone)]
pub(super) struct Values {
    pub(super) table: &'static Table,
    /// What it is of, where its table has kinds and the file names one of them.
    pub(super) kind: Option<Kind>,
    /// Where its header stands.
    pub(super) span: Range<usize>,
    pub(super) read: BTreeMap<&'static str, Found<Value>>,
    /// The keys at which something stands that could not be read.
    pub(super) unread: Vec<&'static str>,
    /// Nothing was wrong in it.
    pub(super) clean: bool,
}

/// A type that the value of a key can be taken as.
pub(super) trait FromValue: Sized {
    /// Returns the value, if the key holds one of this type.
    fn from_value(value: &Value) -> Option<Self>;
}

impl Values {
    /// A table that the file does not have.
    pub(super) const fn absent(table: &'static Table) -> Self {
        Self {
            table,
            kind: None,
            span: 0..0,
            read: BTreeMap::new(),
            unread: Vec::new(),
            clean: true,
        }
    }

    /// Returns what the file says at `key`; none where it says nothing, or nothing that could be read.
    pub(super) fn given<T: FromValue>(&self, key: &str) -> Option<Found<T>> {
        let key = self.key(key);
        let found = self.read.get(key.name)?;
        Some(Found {
            value: typed(key, &found.value),
            span: found.span.clone(),
        })
    }

    /// Returns what the file says at `key`, or its default.
    pub(super) fn get<T: FromValue>(&self, key: &str) -> T {
        self.given(key).map_or_else(
            || {
                let key = self.key(key);
                let Presence::Default(text) = key.presence else {
                    panic!("bug: `{}` has no default", key.name);
                };
                typed(key, &quantity::default(key, text))
            },
            |found| found.value,
        )
    }

    /// Returns the table at `key`; an empty one where the file has none.
    pub(super) fn table(&self, key: &str) -> Self {
        let key = self.key(key);
        match self.read.get(key.name) {
            Some(found) => typed(key, &found.value),
            None => match (key.presence, key.quantity.table()) {
                (Presence::Default(_), _) => self.get(key.name),
                (_, Some(table)) => Self::absent(table),
                (_, None) => panic!("bug: `{}` is no table", key.name),
            },
        }
    }

    /// Returns the tables of the list at `key`.
    pub(super) fn tables(&self, key: &str) -> Vec<Self> {
        let key = self.key(key);
        let found = self.read.get(key.name);
        found.map_or_else(Vec::new, |found| typed(key, &found.value))
    }

    /// Returns where the value of `key` stands; none where none could be read.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        let found = self.read.get(self.key(key).name);
        found.map(|found| found.span.clone())
    }

    /// Tells whether something stands at `key` that could not be read.
    pub(super) fn unread(&self, key: &str) -> bool {
        self.unread.contains(&self.key(key).name)
    }

    fn key(&self, name: &str) -> &'static Key {
        let of_kind = self.kind.map_or(&[][..], |kind| kind.keys);
        let mut keys = self.table.keys.iter().chain(of_kind);
        keys.find(|key| key.name == name)
            .unwrap_or_else(|| panic!("bug: {} has no key `{name}`", self.table.header))
    }
}

fn typed<T: FromValue>(key: &Key, value: &Value) -> T {
    T::from_value(value).unwrap_or_else(|| panic!("bug: `{}` is of another type", key.name))
}

/// Types that a variant of [`Value`] holds as they are.
macro_rules! held {
    ($($variant:ident: $type:ty),+) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }
        }
    )+};
}

held! {
    Text: String, Flag: bool, Integer: i64, Number: f64, Duration: Duration, Word: &'static str,
    Table: Values, Tables: Vec<Values>, Settings: BTreeMap<String, String>
}

impl FromValue for i32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}
