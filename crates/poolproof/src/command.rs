//! The commands: each takes its arguments and returns an exit code.

mod check;
mod completions;
mod doctor;
mod error;
mod proxy;
mod report;
mod run;

use std::io;

pub(crate) use error::CommandError;

use crate::args::{Command, Schema};
use crate::{diagnose, exit, output};

/// Performs a command and shows what went wrong, if anything did.
pub(crate) async fn perform(command: Command) -> u8 {
    let done = match command {
        Command::Demo(args) => run::demo(args).await,
        Command::Run { files, run } => run::files(&files, run).await,
        Command::Load { file, pool, run } => run::load(&file, &pool, run).await,
        Command::Proxy(args) => proxy::serve(args).await,
        Command::Check { url } => check::check(&url).await,
        Command::Doctor => doctor::doctor().await,
        Command::Report(args) => report::render(&args),
        Command::Schema { what } => schema(what),
        Command::Completions { shell } => completions::completions(shell),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            diagnose::show(&error);
            error.exit_code()
        }
    }
}

fn schema(what: Schema) -> Result<u8, CommandError> {
    let schema = match what {
        Schema::Result => poolproof_report::schema(),
        Schema::Scenario => poolproof_run::scenario_schema(),
    };
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| CommandError::Print(io::Error::other(error)))?;
    output::print(&format!("{text}\n")).map_err(CommandError::Print)?;
    Ok(exit::OK)
}
