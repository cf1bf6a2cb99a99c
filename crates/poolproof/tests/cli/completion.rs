//! The completion script, asked as bash asks it.

use std::process::Command;

use super::{run, told};

/// Sources the script and asks for what may follow. Each word is one as bash splits them with the
/// separators that it has by default; the last is the one to complete.
fn completed(words: &[&str]) -> Vec<String> {
    let (code, script, _) = run(&["completions", "bash"]);
    assert_eq!(code, 0);
    let ask = r#"
        source /dev/stdin <<< "$1"; shift
        registered=$(complete -p poolproof)
        [[ $registered =~ \ -F\ ([^ ]+) ]] || exit 9
        COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 ))
        COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        case "${COMP_WORDS[COMP_CWORD]}" in :|=) current= ;; *) current="${COMP_WORDS[COMP_CWORD]}" ;; esac
        compopt() { :; }
        "${BASH_REMATCH[1]}" poolproof "$current" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    #[expect(
        clippy::disallowed_methods,
        reason = "the script under test is for a shell"
    )]
    let mut bash = Command::new("bash");
    let arguments = ["--norc", "-c", ask, "bash", &script, "poolproof"];
    bash.args(arguments).args(words).env_remove("BASH_ENV");
    let (code, stdout, stderr) = told(bash.output().unwrap());
    assert_eq!((code, stderr.as_str()), (0, ""), "{words:?}");
    stdout.lines().map(str::to_owned).collect()
}

/// Goal: what bash adds to the line gives the name of a subject. Method: bash keeps what stands
/// before the last separator, so only the rest may be answered.
#[test]
fn bash_completes_a_planted_subject() {
    for option in [&["--subject"][..], &["--subject", "="]] {
        let after = |rest: &[&str]| completed(&[&["demo"], option, rest].concat());
        assert_eq!(
            after(&["planted", ":", "l"]),
            ["leak", "lies"],
            "{option:?}"
        );
        assert_eq!(after(&["planted", ":", "le"]), ["leak"], "{option:?}");
        let all = after(&["planted", ":"]);
        assert!(all.contains(&"dirty".to_owned()), "{all:?}");
        let whole = after(&["pla"]);
        assert!(whole.contains(&"planted:leak".to_owned()), "{whole:?}");
    }
    let any = completed(&["demo", "--subject", "="]);
    assert!(any.contains(&"sqlx".to_owned()), "{any:?}");
}

#[test]
fn bash_completes_what_has_no_colon_as_before() {
    assert_eq!(completed(&["doc"]), ["doctor"]);
    assert_eq!(completed(&["schema", "sc"]), ["scenario"]);
    assert_eq!(
        completed(&["demo", "--subject", "naive", "--keep"]),
        ["--keep-going"]
    );
    // After a value with a colon the options are known again.
    let words = ["demo", "--subject", "planted", ":", "leak", "--keep"];
    assert_eq!(completed(&words), ["--keep-going"]);
}
