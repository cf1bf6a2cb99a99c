//! Checks the workspace itself: layers, headers, and what the documents promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Edges by crate: which of our crates it depends on, normally.
type Edges = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies two levels below the workspace")
        .to_owned()
}

/// Reads the table under "## The crates" in ARCHITECTURE.md.
fn edges_in_table(text: &str) -> Edges {
    let words = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(ToOwned::to_owned)
            .collect()
    };
    text.lines()
        .skip_while(|line| *line != "## The crates")
        .take_while(|line| !line.starts_with("## ") || *line == "## The crates")
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let name = words(cells[1]).pop_first().expect("a row names its crate");
            (name, words(cells[3]))
        })
        .collect()
}

fn edges_in_cargo() -> Edges {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata answers");
    let ours: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    metadata
        .packages
        .iter()
        .map(|package| {
            let normal = package
                .dependencies
                .iter()
                .filter(|dep| dep.kind == DependencyKind::Normal);
            let edges = normal
                .map(|dep| dep.name.clone())
                .filter(|name| ours.contains(name));
            (package.name.to_string(), edges.collect())
        })
        .collect()
}

/// Returns every Rust file of the workspace's crates, and of the fuzzing beside it, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).expect("a folder of the workspace can be listed") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["crates", "fuzz/fuzz_targets", "fuzz/properties"] {
        walk(&root().join(folder), &mut found);
    }
    found
}

/// Lists the lines with a public async function whose docs lack a section on cancel safety.
fn async_without_cancel_safety(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let public_async = |line: &str| line.trim_start().starts_with("pub async fn ");
    (0..lines.len())
        .filter(|&at| public_async(lines[at]))
        .filter(|&at| {
            let above = lines[..at].iter().rev().map(|line| line.trim_start());
            let mut docs = above.take_while(|l| l.starts_with("///") || l.starts_with("#["));
            !docs.any(|line| line.starts_with("/// # Cancel safety"))
        })
        .map(|at| at + 1)
        .collect()
}

#[test]
fn normal_edges_are_those_of_the_architecture_paper() {
    let paper = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the paper is there");
    assert_eq!(edges_in_cargo(), edges_in_table(&paper));
}

#[test]
fn a_table_is_read_row_by_row() {
    let text = "## The crates\n\n| layer | crate | folder | edges |\n|---|---|---|---|\n\
                | 0 | `a` | `crates/a` | none |\n| 1 | `b` | `crates/b` | `a`, `c` |\n\n## Next\n\
                | 2 | `z` | `crates/z` | none |\n";
    let edges = edges_in_table(text);
    let b = BTreeSet::from(["a".to_owned(), "c".to_owned()]);
    assert_eq!(
        edges,
        Edges::from([("a".to_owned(), BTreeSet::new()), ("b".to_owned(), b)])
    );
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(silent, Vec::<PathBuf>::new());
}

#[test]
fn every_public_async_function_says_what_dropping_it_does() {
    let silent: Vec<_> = sources()
        .into_iter()
        .flat_map(|(path, text)| {
            async_without_cancel_safety(&text)
                .into_iter()
                .map(move |line| format!("{}:{line}", path.display()))
        })
        .collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn a_missing_section_on_cancel_safety_is_found() {
    let text = "/// A.\n/// # Cancel safety\n/// Safe.\n#[must_use]\npub async fn a() {}\n\n\
                /// B.\npub async fn b() {}\n";
    assert_eq!(async_without_cancel_safety(text), vec![8]);
}

#[test]
fn suppressed_lints_must_stay_true() {
    // Split, so that this line is not one itself.
    let forbidden = concat!("#[", "allow(");
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.contains(forbidden))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        found,
        Vec::<PathBuf>::new(),
        "use #[expect(…, reason = \"…\")]"
    );
}
