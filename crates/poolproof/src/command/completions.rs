//! `poolproof completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::CommandError;
use crate::args::Cli;
use crate::{exit, output};

/// Lets bash complete words with colons, such as `planted:leak`.
const WHOLE_WORDS: &str = include_str!("completions.bash");

pub(super) fn completions(shell: Shell) -> Result<u8, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "poolproof", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        script = script.replace(
            "complete -F _poolproof ",
            "complete -F _poolproof_whole_words ",
        );
        script.push_str(WHOLE_WORDS);
    }
    output::print(&script).map_err(CommandError::Print)?;
    Ok(exit::OK)
}
