//! `node start`.

use anyhow::{Context as _, anyhow};
use selvedge_peer::config::{Loaded, PeerConfig, Sources};
use selvedge_peer::logging::{self, LogControl};
use selvedge_peer::node::Node;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::failure::Failure;
use crate::signals::cancel_on_signal;

/// Runs a peer until SIGTERM or SIGINT. `chaincode_dev` is `--peer-chaincodedev`.
pub fn start(chaincode_dev: bool) -> Result<(), Failure> {
    let log = logging::init_from_environment()?;
    logging::log_panics();
    let mut config = configuration()?;
    config.chaincode.dev_mode |= chaincode_dev;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(run(config, log)).map_err(Failure::Fatal)
}

fn configuration() -> Result<PeerConfig, Failure> {
    let loaded = Sources::discover().and_then(|sources| sources.peer());
    let Loaded { config, warnings } = loaded.map_err(|error| {
        Failure::Setup(format!(
            "Fatal error when initializing core config : {error}"
        ))
    })?;
    info!(target: "main", "configuration read from {}", config.config_file.display());
    for warning in warnings {
        warn!(target: "main", "{warning}");
    }
    Ok(config)
}

async fn run(config: PeerConfig, log: LogControl) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone())?;
    let mut node = tokio::select! {
        node = Node::start(config, log) => node?,
        () = shutdown.cancelled() => return Ok(()),
    };
    info!(target: "nodeCmd", address = %node.address(), "peer listens");
    let failed = tokio::select! {
        () = shutdown.cancelled() => false,
        () = node.failed() => true,
    };
    node.stop().await;
    if failed {
        return Err(anyhow!("a part of the peer has ended unexpectedly"));
    }
    Ok(())
}
