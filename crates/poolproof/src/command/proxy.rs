//! `poolproof proxy`.

use super::CommandError;
use crate::args::ProxyArgs;
use crate::signals::Signals;
use crate::{exit, output};

pub(super) async fn serve(args: ProxyArgs) -> Result<u8, CommandError> {
    let ProxyArgs { listen, seed } = args;
    let mut signals = Signals::listen().map_err(CommandError::Signals)?;
    let failed = |source| CommandError::Proxy { listen, source };
    let server = poolproof_run::ProxyServer::bind(listen, seed)
        .await
        .map_err(failed)?;
    let address = server.address();
    if !address.ip().is_loopback() {
        output::tell(
            "note: everybody who can reach this address can open ports on this machine and \
             connect them to whatever it can reach\n",
        );
    }
    output::print(&format!("Toxiproxy API at http://{address}\n")).map_err(CommandError::Print)?;
    server
        .serve(async move { signals.next().await })
        .await
        .map_err(failed)?;
    output::tell("stopped\n");
    Ok(exit::OK)
}
