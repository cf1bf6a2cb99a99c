//! What of the user's environment must not reach any connection.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::args::Command;
use crate::output;

/// sqlx takes it into the options of every connection, and lets nobody take it out again.
const VARIABLE: &str = "PGOPTIONS";

/// Goes on without `PGOPTIONS`: as the same process, which begins once more. Settings meant for `psql`
/// must neither reach a private server nor judge a pool silently.
///
/// Returns at once where it is not set.
#[expect(
    clippy::disallowed_methods,
    reason = "this process itself, before anything is started"
)]
pub(crate) fn leave(command: &Command) -> io::Result<()> {
    if env::var_os(VARIABLE).is_none() {
        return Ok(());
    }
    if matches!(
        command,
        Command::Demo(_) | Command::Run { .. } | Command::Check { .. }
    ) {
        output::tell(
            "PGOPTIONS is not used: settings stand in the URL (?options=-c%20name%3Dvalue) for an \
             existing server, under [postgres] in the scenario for a private one\n",
        );
    }
    // The link leads to this very program even when its file was replaced meanwhile.
    let program = Path::new("/proc/self/exe");
    let program = match program.exists() {
        true => program.to_owned(),
        false => env::current_exe()?,
    };
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "poolproof".into());
    let mut again = std::process::Command::new(program);
    again.arg0(name).args(arguments).env_remove(VARIABLE);
    Err(again.exec())
}
