//! The command line: arguments, progress, diagnostics, exit codes.
//!
//! Standard output carries results (verdicts, reports, schemas); standard error carries progress
//! and problems, so that either can be piped.
//!
//! Not here: anything that a library could want. What a command does lives in `poolproof-run`.

mod args;
mod command;
mod diagnose;
mod environment;
mod exit;
mod output;
mod progress;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return ExitCode::from(output::usage(&usage)),
    };
    if let Err(error) = environment::leave(&cli.command) {
        diagnose::show(&command::CommandError::Environment(error));
        return ExitCode::from(exit::ENVIRONMENT);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            diagnose::show(&command::CommandError::Runtime(error));
            return ExitCode::from(exit::ENVIRONMENT);
        }
    };
    let code = runtime.block_on(command::perform(cli.command));
    // A blocking call that hangs, such as the resolver's, must not keep the process. What must not be
    // cut short, a command has waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}
