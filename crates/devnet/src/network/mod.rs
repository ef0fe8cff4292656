//! A whole network in this process: an ordering node, peers, and a client that keeps them busy.

mod compare;
mod core_yaml;
mod folder;
mod monitor;
mod peer;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use selvedge_peer::logging::LogControl;
use selvedge_transport::{
    ClientAuth, ClientTls, ConnectOptions, ServerTls, TlsIdentity, bind, certificates_from_pem,
    channel,
};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::error::{DevnetError, file_error};
use crate::options::Options;
use crate::orderer::{Orderer, OrdererError, OrdererOptions, Refusal};
use crate::summary::Summary;
use crate::traffic::{Author, TrafficError, flow};
use crate::view::{Status, View};
pub use folder::CHANNEL;
use folder::NetworkFolder;
use monitor::Monitor;
use peer::{Newcomer, News, Peer};

/// Peers that do not all know each other by then get traffic all the same.
const MAX_WAIT_FOR_MEMBERSHIP: Duration = Duration::from_secs(30);
/// How long peers may take for the last blocks after an interruption.
const MAX_WAIT_FOR_LAST_BLOCKS: Duration = Duration::from_secs(20);
/// What the measuring has not looked at yet; when there is more, the telling waits.
const MAX_NEWS: usize = 4096;

/// Builds a network, runs it until `shutdown` or until every peer has as many blocks as the options
/// ask for, stops it, and prints what was seen.
///
/// An interrupted run is no error. Whatever happens, the network is stopped on return, and a
/// temporary folder is removed. Dropping the future stops everything without ceremony.
///
/// `log` is the log of the process, which all nodes share.
pub async fn up(
    options: Options,
    log: LogControl,
    shutdown: CancellationToken,
) -> Result<Summary, DevnetError> {
    options.check()?;
    let temporary = match &options.dir {
        Some(_) => None,
        None => {
            let failed = file_error("cannot create a folder in", std::env::temp_dir());
            Some(tempfile::tempdir().map_err(failed)?)
        }
    };
    let chosen = options.dir.as_deref();
    let root = chosen.or(temporary.as_ref().map(tempfile::TempDir::path));
    let root = root.map(Path::to_owned).unwrap_or_default();
    std::fs::create_dir_all(&root).map_err(file_error("cannot create", &root))?;
    let root = root
        .canonicalize()
        .map_err(file_error("cannot open", &root))?;

    let mut view = View::new(options.output);
    let mut network = Network::create(&root, &options, &view).await?;
    let result = network.run(&options, log, &shutdown, &mut view).await;
    let stopped = network.stop().await;
    let summary = result?;
    stopped?;
    if let Some(folder) = temporary {
        folder.close().map_err(file_error("cannot remove", root))?;
    }
    view.finish(&summary)
        .map_err(file_error("cannot write to", "standard output"))?;
    Ok(summary)
}

struct Network {
    folder: NetworkFolder,
    orderer: Orderer,
    peers: Vec<Peer>,
}

impl Network {
    /// Makes or opens what is on disk and starts the ordering node.
    async fn create(root: &Path, options: &Options, view: &View) -> Result<Self, DevnetError> {
        let folder = NetworkFolder::open_or_create(root, options)?;
        let Options { orgs, peers, .. } = options;
        view.say(format_args!(
            "organisations: {orgs}, peers in each: {peers}, folder: {}",
            root.display()
        ));
        let orderer = start_orderer(&folder).await?;
        view.say(format_args!(
            "ordering node at {}, channel {CHANNEL}",
            folder.orderer_address()
        ));
        let network = Self {
            folder,
            orderer,
            peers: Vec::new(),
        };
        if network.orderer.store().height() == 1 {
            network.define_chaincode().await?;
        }
        Ok(network)
    }

    /// Block 1 of the channel, without which no transaction would be valid.
    async fn define_chaincode(&self) -> Result<(), DevnetError> {
        let definition = self.author()?.define().map_err(TrafficError::from)?;
        let mut heights = self.orderer.store().subscribe();
        let refused = |refusal: Refusal| TrafficError::Refused {
            status: refusal.status() as i32,
            info: refusal.to_string(),
        };
        self.orderer.submit(definition).await.map_err(refused)?;
        // Fails if nothing can be ordered any more.
        let ordered = heights.wait_for(|height| *height == 2).await;
        ordered.map(drop).map_err(|_| TrafficError::Closed.into())
    }

    async fn run(
        &mut self,
        options: &Options,
        log: LogControl,
        shutdown: &CancellationToken,
        view: &mut View,
    ) -> Result<Summary, DevnetError> {
        let before = self.orderer.store().height().saturating_sub(1);
        let (sender, news) = mpsc::channel(MAX_NEWS);
        self.start_peers(log, &sender, view).await?;
        drop(sender);
        let (taken_sender, taken) = watch::channel(0);
        let mut monitor = Monitor::new(self, before, options.blocks, news, taken);

        view.say("waiting until all peers know each other");
        let everybody = self.peers.len().saturating_sub(1);
        let gathering = monitor.watch(view, |status| status.least_in_channel() >= everybody);
        let gathering = timeout(MAX_WAIT_FOR_MEMBERSHIP, gathering);
        if let Some(Err(_)) = shutdown.run_until_cancelled(gathering).await {
            view.say("not every peer knows every other yet; going on");
        }

        let traffic = flow(self.author()?, options.rate, self.client()?, taken_sender);
        monitor.begin();
        let last = monitor.last();
        let enough = |status: &Status| last.is_some_and(|last| status.on_every_peer() >= last);
        tokio::select! {
            watched = monitor.watch(view, enough) => watched?,
            ended = traffic => ended?,
            () = shutdown.cancelled() => view.say("stopping"),
        }
        if shutdown.is_cancelled() {
            // What has been sent is in a block once the batch timeout has passed.
            let quiet = monitor.elapsed() + self.orderer.config().orderer().batch_timeout();
            let level = monitor.watch(view, |status| {
                status.elapsed > quiet && status.on_every_peer() >= status.ordered
            });
            match timeout(MAX_WAIT_FOR_LAST_BLOCKS, level).await {
                Ok(watched) => watched?,
                Err(_) => view.say("not every peer has got the last blocks"),
            }
        }
        monitor.summary(view).await
    }

    async fn start_peers(
        &mut self,
        log: LogControl,
        news: &mpsc::Sender<News>,
        view: &View,
    ) -> Result<(), DevnetError> {
        let mut started = Vec::new();
        for place in self.folder.peers() {
            started.push(Newcomer::start(&place, log.clone(), news.clone()).await?);
            view.say(format_args!("{} at {}", place.name, place.address()));
        }
        // Only now, since who joins calls the anchor peers.
        for peer in started {
            self.peers.push(peer.join(&self.folder.genesis).await?);
        }
        Ok(())
    }

    /// User1 of the first organisation; so many organisations endorse that the channel's default
    /// endorsement policy is satisfied, which asks for a majority.
    fn author(&self) -> Result<Author, DevnetError> {
        let organizations = &self.folder.organizations;
        let [first, ..] = organizations.as_slice() else {
            return Err(DevnetError::Option {
                option: "orgs",
                found: "0".to_owned(),
                expected: "1 or more".to_owned(),
            });
        };
        let majority = organizations.iter().take(organizations.len() / 2 + 1);
        let endorsers = majority.map(|organization| organization.node_identity("peer0"));
        Ok(Author {
            channel_id: CHANNEL.to_owned(),
            client: first.user_identity("User1")?,
            endorsers: endorsers.collect::<Result<_, _>>()?,
        })
    }

    fn client(&self) -> Result<Channel, DevnetError> {
        let host = self.folder.orderer_host();
        let authority = read(&self.folder.ordering.node_tls(host).authority)?;
        let tls = ClientTls::new(&certificates_from_pem(&authority)?, None, None)?;
        let endpoint = self.folder.orderer_address().to_string().parse()?;
        Ok(channel(&endpoint, Some(tls), &ConnectOptions::default()))
    }

    async fn stop(self) -> Result<(), DevnetError> {
        let stops = self.peers.into_iter().map(Peer::stop);
        futures::future::join_all(stops).await;
        Ok(self.orderer.stop().await?)
    }
}

async fn start_orderer(folder: &NetworkFolder) -> Result<Orderer, DevnetError> {
    let host = folder.orderer_host();
    let files = folder.ordering.node_tls(host);
    let identity = TlsIdentity::from_pem(&read(&files.certificate)?, &read(&files.key)?)?;
    let tls = ServerTls::new(identity, ClientAuth::Request, Vec::new())?;
    let options = OrdererOptions {
        folder: folder.root.join("orderer"),
        channel_id: CHANNEL.to_owned(),
        genesis: folder.genesis.clone(),
        signer: folder.ordering.node_identity(host)?,
        tls,
    };
    let listener = bind(folder.orderer_address().to_string())
        .await
        .map_err(OrdererError::from)?;
    Ok(Orderer::start(listener, options).await?)
}

fn read(path: &Path) -> Result<Vec<u8>, DevnetError> {
    std::fs::read(path).map_err(file_error("cannot read", path))
}
