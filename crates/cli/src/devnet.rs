//! `devnet up`.

use anyhow::{Context as _, anyhow};
use selvedge_devnet::{Options, Output};
use selvedge_peer::logging;
use tokio_util::sync::CancellationToken;

use crate::args::{self, DevnetArgs};
use crate::failure::Failure;
use crate::signals::cancel_on_signal;

impl From<DevnetArgs> for Options {
    fn from(arguments: DevnetArgs) -> Self {
        Self {
            orgs: arguments.orgs,
            peers: arguments.peers,
            rate: arguments.rate,
            block_size: arguments.block_size,
            batch_timeout: arguments.batch_timeout,
            blocks: arguments.blocks,
            dir: arguments.dir,
            output: match arguments.output {
                args::Output::Text => Output::Text,
                args::Output::Json => Output::Json,
            },
        }
    }
}

/// Runs a network until it has its blocks or is interrupted. It fails if the peers do not hold the
/// same chain at the end.
pub fn up(arguments: DevnetArgs) -> Result<(), Failure> {
    // The view of the network is on the terminal: only trouble belongs there besides.
    let variable = |name| std::env::var(name).unwrap_or_default();
    let spec = Some(variable("FABRIC_LOGGING_SPEC")).filter(|spec| !spec.is_empty());
    let spec = spec.as_deref().unwrap_or("warn");
    let log = logging::init(spec, &variable("FABRIC_LOGGING_FORMAT"))?;

    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let summary = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        cancel_on_signal(shutdown.clone())?;
        anyhow::Ok(selvedge_devnet::up(arguments.into(), log, shutdown).await?)
    })?;
    if !summary.identical {
        return Err(anyhow!("the peers do not hold the same chain").into());
    }
    Ok(())
}
