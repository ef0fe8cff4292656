//! `channel fetch`.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use selvedge_channel::last_config_number;
use selvedge_peer::config::ClientConfig;
use selvedge_protos::Message as _;
use selvedge_protos::common::Block;
use tracing::info;

use crate::client::{Deliver, Identity, Position};

/// Which block, and where to put it.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    target: Target,
    output: PathBuf,
    channel_id: String,
    best_effort: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Newest,
    Oldest,
    Config,
    Number(u64),
}

impl Request {
    pub fn new(
        target: Option<String>,
        output: Option<PathBuf>,
        channel_id: String,
        best_effort: bool,
    ) -> anyhow::Result<Self> {
        let target = target
            .ok_or_else(|| anyhow!("fetch target required, oldest, newest, config, or a number"))?;
        let output =
            output.unwrap_or_else(|| PathBuf::from(format!("{channel_id}_{target}.block")));
        let target = match target.as_str() {
            "newest" => Target::Newest,
            "oldest" => Target::Oldest,
            "config" => Target::Config,
            number => Target::Number(
                number
                    .parse()
                    .map_err(|_| anyhow!("fetch target illegal: {number}"))?,
            ),
        };
        Ok(Self {
            target,
            output,
            channel_id,
            best_effort,
        })
    }
}

pub(super) async fn run(
    config: &ClientConfig,
    identity: &Identity,
    request: Request,
) -> anyhow::Result<()> {
    let Request {
        target,
        output,
        channel_id,
        best_effort,
    } = request;
    // Fabric turns to the peer wherever the ordering node's address has not exactly one colon.
    let mut deliver = if config.orderer.address.split(':').count() == 2 {
        Deliver::from_orderer(&config.orderer, identity, channel_id, best_effort)
            .await
            .context("failed to create deliver client for orderer")?
    } else {
        Deliver::from_peer(&config.peer, identity, channel_id, best_effort)
            .await
            .context("failed to create deliver client for peer")
            .context("error getting deliver client for channel")?
    };
    info!(target: "channelCmd", "Endorser and orderer connections initialized");
    let block = match target {
        Target::Newest => deliver.block(Position::Newest).await?,
        Target::Oldest => deliver.block(Position::Oldest).await?,
        Target::Number(number) => deliver.block(Position::Number(number)).await?,
        Target::Config => {
            let newest = deliver.block(Position::Newest).await?;
            let number = last_config_number(&newest)?;
            info!(target: "channelCmd", "Retrieving last config block: {number}");
            expect_number(deliver.block(Position::Number(number)).await?, number)?
        }
    };
    std::fs::write(&output, block.encode_to_vec())
        .with_context(|| format!("cannot write {}", output.display()))
}

fn expect_number(block: Block, number: u64) -> anyhow::Result<Block> {
    match block.header.as_ref().map(|header| header.number) {
        Some(found) if found == number => Ok(block),
        found => bail!("asked for block {number}, got block {found:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, output: Option<&str>) -> anyhow::Result<Request> {
        Request::new(
            Some(target.to_owned()),
            output.map(PathBuf::from),
            "ch".to_owned(),
            false,
        )
    }

    #[test]
    fn targets_and_file_names() {
        for (target, expected) in [
            ("newest", Target::Newest),
            ("oldest", Target::Oldest),
            ("config", Target::Config),
            ("17", Target::Number(17)),
        ] {
            let request = request(target, None).unwrap();
            assert_eq!(request.target, expected);
            assert_eq!(request.output, PathBuf::from(format!("ch_{target}.block")));
        }
        assert_eq!(
            request("0", Some("x/y")).unwrap().output,
            PathBuf::from("x/y")
        );
        for wrong in ["", "latest", "-1", "1.5"] {
            let message = request(wrong, None).unwrap_err().to_string();
            assert_eq!(message, format!("fetch target illegal: {wrong}"));
        }
    }
}
