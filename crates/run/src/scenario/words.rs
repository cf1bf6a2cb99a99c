//! Which word was probably meant.

use super::key::Word;

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

/// Tells whether `typed` is among the words that people use for another.
pub(super) fn is_synonym(typed: &str, synonyms: &[&str]) -> bool {
    let typed = typed.to_lowercase().replace('_', "-");
    synonyms.iter().any(|word| word.replace('_', "-") == typed)
}

/// Returns the word of a list that `typed` was probably meant to be.
pub(super) fn meant(typed: &str, words: &[Word]) -> Option<&'static str> {
    words
        .iter()
        .find(|word| is_synonym(typed, word.synonyms))
        .map(|word| word.word)
        .or_else(|| nearest(typed, words.iter().map(|word| word.word)))
}

/// Returns words as messages list them: `` `a`, `b` ``.
pub(super) fn listed<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let quoted: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
