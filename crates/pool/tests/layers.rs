//! The pool is generic: of Postgres and of sqlx only the session layer, `pg`, knows anything.

use std::fs;
use std::path::{Path, PathBuf};

/// What nothing generic may name, as a word of its own.
const FOREIGN: [&str; 4] = ["pg", "sqlx", "poolproof_url", "poolproof_ops"];

/// Every source file with its path below `src`.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a source folder can be listed") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                let below = path.strip_prefix(root).expect("a file lies below its root");
                found.push((below.to_owned(), text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found
}

/// The crate's root, which only gathers what there is, and the session layer know both sides. Tests may
/// know all.
fn is_generic(file: &Path) -> bool {
    let whole = ["lib.rs", "pg.rs"].map(Path::new);
    let is_test = file
        .iter()
        .any(|part| part == "tests" || part == "tests.rs");
    !whole.contains(&file) && !file.starts_with("pg") && !is_test
}

/// The lines of code that name something foreign. Comments may: documentation gives examples.
fn foreign_lines(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| {
            let code = line.split("//").next().unwrap_or_default();
            code.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| FOREIGN.contains(&word) || is_of_postgres(word))
        })
        .collect()
}

/// Types of the session layer and of sqlx begin like this.
fn is_of_postgres(word: &str) -> bool {
    let rest = word.strip_prefix("Pg");
    rest.is_some_and(|rest| rest.starts_with(char::is_uppercase))
}

#[test]
fn nothing_generic_knows_postgres() {
    let sources = sources();
    let generic: Vec<_> = sources
        .iter()
        .filter(|(file, _)| is_generic(file))
        .collect();
    for known in [
        "state.rs",
        "pool.rs",
        "hooks.rs",
        "critical.rs",
        "pool/acquire.rs",
    ] {
        let known = Path::new(known);
        assert!(generic.iter().any(|(file, _)| file == known), "{known:?}");
    }
    let foreign: Vec<String> = generic
        .iter()
        .flat_map(|(file, text)| {
            foreign_lines(text)
                .into_iter()
                .map(move |(at, line)| format!("{}:{at}: {line}", file.display()))
        })
        .collect();
    assert_eq!(foreign, Vec::<String>::new());
}

#[test]
fn a_line_that_knows_postgres_is_found_and_a_comment_is_not() {
    let text = "/// See [`crate::pg`] and sqlx.\nuse crate::pg::InDoubt;\nlet page = 1;\n\
                fn f(it: Lease<PgConnector>) {}\nenum E<T = sqlx::Error> {}\nlet x = 1; // pg\n";
    let at: Vec<usize> = foreign_lines(text).into_iter().map(|(at, _)| at).collect();
    assert_eq!(at, vec![2, 4, 5]);
}
