//! What holds for every SQL text that is looked at before it is sent.

use super::{Effect, effect, outline};

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let shown = outline(text);
    assert_eq!(outline(&shown), shown, "{text:?} is shown as {shown:?}");
    // An outline leaves out what has no effect, and nothing else.
    assert_eq!(
        effect(&shown),
        effect(text),
        "{text:?} is shown as {shown:?}"
    );
    literals(text);
    comments(text);
    hidden_commit(text);
}

/// No part of a literal is shown, and no word in one has an effect.
fn literals(text: &str) {
    let doubled = text.replace('\'', "''");
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut literals = vec![format!("'{doubled}'"), format!("E'{escaped}'")];
    if !text.contains("$q$") && !text.ends_with("$q") {
        literals.push(format!("$q${text}$q$"));
    }
    for literal in literals {
        let sql = format!("select {literal}, 1");
        let shown = outline(&sql);
        let rest = shown.replace('?', "");
        assert_eq!(
            rest.split_whitespace().collect::<Vec<_>>(),
            ["select", ","],
            "{sql:?}"
        );
        assert_eq!(effect(&sql), Effect::None, "{sql:?}");
        let sql = format!("{sql}; commit");
        assert_eq!(effect(&sql), Effect::Control("COMMIT"), "{sql:?}");
    }
}

/// Nothing of a comment is shown, and what follows it is seen.
fn comments(text: &str) {
    let line: String = text.chars().filter(|c| !"\r\n".contains(*c)).collect();
    let block = text.replace(['*', '/'], "");
    for comment in [
        format!("--{line}\n"),
        format!("--{line}\r"),
        format!("/*{block}*/"),
    ] {
        let sql = format!("select a {comment} , b");
        assert_eq!(outline(&sql), "select a , b", "{sql:?}");
        let sql = format!("{comment}commit");
        assert_eq!(effect(&sql), Effect::Control("COMMIT"), "{sql:?}");
    }
}

/// What controls a transaction is seen after any statement that is complete.
fn hidden_commit(text: &str) {
    let complete = !text.contains(['\'', '"', '$', '/', '*', '-']);
    let in_function = text.to_ascii_lowercase().contains("atomic");
    if complete && !in_function {
        let sql = format!("{text};rollback");
        let passes = matches!(
            effect(&sql),
            Effect::None | Effect::Residue(_) | Effect::Indelible(_)
        );
        assert!(!passes, "{sql:?}");
    }
}
