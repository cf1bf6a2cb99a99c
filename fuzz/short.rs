//! The short fuzz of the ordinary test run: the committed corpus, what once failed, and mutations of
//! both. Tests include this file by its path; `just fuzz` looks for longer, guided by coverage.
//!
//! Everything derives from the seed: input `i` of a seed is always the same, whatever came before it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Longer inputs only repeat what shorter ones do, and slowly.
const LENGTH_MAX: usize = 8192;

/// Bytes that end, begin or break something in one of the syntaxes.
const SHARP: &[&str] = &[
    "\0",
    "\n",
    "\r",
    "\t",
    " ",
    "%",
    "%00",
    "%ff",
    "\u{a0}",
    "\u{1b}",
    "ä",
    "\u{1f600}",
    "'",
    "\"",
    "''",
    "\\",
    "/",
    "//",
    "?",
    "#",
    "@",
    ":",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    "=",
    "&",
    "+",
    "-",
    "--",
    "/*",
    "*/",
    "$",
    "$$",
    ".",
    "e",
    "0x",
];

/// Numbers at which something begins or ends.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "7",
    "10",
    "255",
    "256",
    "1000",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e-308",
    "0.1",
    "-0.0",
    "NaN",
    "inf",
];

/// Holds `property` against the inputs of `target`: each file of `fuzz/corpus/<target>` and
/// `fuzz/regressions/<target>`, then `inputs` mutations of them, or as many
/// as `POOLPROOF_FUZZ_INPUTS` says. `words` are those of the syntax.
///
/// # Panics
/// With the input, and what to do to see it again, when the property does not hold.
#[track_caller]
pub(crate) fn fuzz(target: &str, inputs: u64, words: &[&str], property: impl Fn(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "target `{target}` has no corpus");
    for (path, input) in &corpus {
        if let Err(why) = outcome(&property, input) {
            panic!("target `{target}` failed on {}: {why}", path.display());
        }
    }
    let seed = number("POOLPROOF_SEED", 1);
    for index in 0..number("POOLPROOF_FUZZ_INPUTS", inputs) {
        let input = Mutator::new(seed, index, words).input(&corpus);
        if let Err(why) = outcome(&property, &input) {
            panic!(
                "target `{target}` failed on input {index} of seed {seed}: {why}\n\
                 the input: \"{}\"\n\
                 again: POOLPROOF_SEED={seed} before the same test; once mended, keep the input as a \
                 file in fuzz/regressions/{target}",
                input.escape_ascii()
            );
        }
    }
}

fn outcome(property: &impl Fn(&[u8]), input: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| property(input))).map_err(|cause| {
        let text = cause.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "a panic without a text".to_owned())
    })
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")),
        Err(_) => default,
    }
}

/// The files of a target, in the order of their paths.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut files: Vec<PathBuf> = ["corpus", "regressions"]
        .into_iter()
        .filter_map(|kind| fs::read_dir(root.join(kind).join(target)).ok())
        .flatten()
        .map(|entry| entry.expect("an entry of a folder can be read").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let input = fs::read(&path).expect("a file of the corpus can be read");
            (path, input)
        })
        .collect()
}

/// Makes one input. The numbers are those of SplitMix64.
struct Mutator<'w> {
    state: u64,
    words: &'w [&'w str],
}

impl<'w> Mutator<'w> {
    fn new(seed: u64, index: u64, words: &'w [&'w str]) -> Self {
        let state = seed.wrapping_mul(0xd134_2543_de82_ef95) ^ index;
        let mut mutator = Self { state, words };
        // Neighbouring indexes must not give neighbouring numbers.
        mutator.state = mutator.next();
        mutator
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("bug: a length fits into 64 bits");
        usize::try_from(self.next() % end).expect("bug: what is below a length is one")
    }

    fn one_of<T>(&mut self, many: &'w [T]) -> &'w T {
        &many[self.below(many.len())]
    }

    fn input(&mut self, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].1.clone();
        for _ in 0..=self.below(6) {
            self.mutate(&mut input, corpus);
        }
        input.truncate(LENGTH_MAX);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[(PathBuf, Vec<u8>)]) {
        let start = self.below(input.len() + 1);
        let room = (input.len() - start).min(24);
        let end = start + self.below(room + 1);
        match self.below(8) {
            0 if start < input.len() => input[start] ^= 1 << self.below(8),
            1 => drop(input.drain(start..end)),
            2 => {
                let copy = input[start..end].to_vec();
                let at = self.below(input.len() + 1);
                input.splice(at..at, copy);
            }
            3 => {
                let (other, at) = (&corpus[self.below(corpus.len())].1, start);
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            4 => self.put_number(input, start),
            5 => self.put(input, start..end, SHARP),
            6 if !self.words.is_empty() => self.put(input, start..end, self.words),
            _ if !self.words.is_empty() => self.put(input, start..start, self.words),
            _ => self.put(input, start..start, SHARP),
        }
    }

    fn put(&mut self, input: &mut Vec<u8>, at: std::ops::Range<usize>, words: &'w [&'w str]) {
        let word = self.one_of(words).bytes();
        input.splice(at, word);
    }

    /// Replaces the first number from `start` on.
    fn put_number(&mut self, input: &mut Vec<u8>, start: usize) {
        let digit = |byte: &u8| byte.is_ascii_digit();
        let first = input[start..].iter().position(digit);
        let first = first.map_or(start, |found| start + found);
        let length = input[first..].iter().take_while(|byte| digit(byte)).count();
        self.put(input, first..first + length, NUMBERS);
    }
}
