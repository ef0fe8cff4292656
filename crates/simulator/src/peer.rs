//! One simulated peer: the core, what it runs with, and a ledger of which only the height is kept.

use std::sync::Arc;

use std::time::Instant;

use selvedge_gossip::config::{Config, ConfigError};
use selvedge_gossip::context::LocalPeer;
use selvedge_gossip::crypto::Identity;
use selvedge_gossip::node::{Gossip, Setup};
use selvedge_gossip::types::Endpoint;

use crate::SimulationError;
use crate::block::SimBlock;
use crate::bounds;
use crate::keys::{Key, identity};
use crate::liars::Lie;
use crate::options::Options;
use crate::wires::Nanos;

/// The moment at which simulated time begins, in nanoseconds since 1970.
pub(crate) const EPOCH: u64 = 1_700_000_000_000_000_000;

pub(crate) struct SimPeer {
    pub(crate) identity: Identity,
    pub(crate) config: Arc<Config>,
    pub(crate) gossip: Gossip<SimBlock>,
    pub(crate) key: Key,
    pub(crate) lie: Option<Lie>,
    pub(crate) up: bool,
    /// Counts the starts; what was meant for an earlier run is dropped.
    pub(crate) run: u32,
    /// The wake-up that is scheduled.
    pub(crate) wake_at: Option<Nanos>,
    /// Blocks delivered, by channel.
    pub(crate) heights: Vec<u64>,
    /// By channel: the next block that it gets from the ordering service, while it leads.
    pub(crate) fetches: Vec<Option<u64>>,
    /// Until then it does not reach its ordering node.
    pub(crate) outage_ends: Nanos,
    /// When the committer has worked off what it has.
    pub(crate) committer_free: Nanos,
}

impl SimPeer {
    pub(crate) fn new(
        index: usize,
        options: &Options,
        base: Instant,
        lie: Option<Lie>,
    ) -> Result<Self, SimulationError> {
        Self::named(&peer_name(index), index, 0, options, base, 0, lie)
    }

    /// One that comes to the place of this one, which has left for good.
    pub(crate) fn successor(
        &self,
        index: usize,
        options: &Options,
        base: Instant,
        now: Nanos,
    ) -> Result<Self, SimulationError> {
        let run = self.run + 1;
        let name = format!("{}-{run}", peer_name(index));
        Self::named(&name, index, run, options, base, now, self.lie)
    }

    fn named(
        name: &str,
        index: usize,
        run: u32,
        options: &Options,
        base: Instant,
        now: Nanos,
        lie: Option<Lie>,
    ) -> Result<Self, SimulationError> {
        let org = index % options.orgs;
        let identity = identity(&org_name(org), name)
            .map_err(|refusal| SimulationError::Identity(refusal.0))?;
        let config = Arc::new(config(name, org, options));
        let key = Key(identity.pki_id());
        let gossip = core(&identity, &config, options.seed, index, run, base, now)?;
        Ok(Self {
            key,
            identity,
            gossip,
            config,
            lie,
            up: true,
            run,
            wake_at: None,
            heights: vec![1; options.channels],
            fetches: vec![None; options.channels],
            outage_ends: 0,
            committer_free: 0,
        })
    }

    /// Starts again with the ledgers that there are.
    pub(crate) fn restart(
        &mut self,
        index: usize,
        seed: u64,
        base: Instant,
        now: Nanos,
    ) -> Result<(), ConfigError> {
        self.run += 1;
        self.gossip = core(
            &self.identity,
            &self.config,
            seed,
            index,
            self.run,
            base,
            now,
        )?;
        self.up = true;
        self.wake_at = None;
        self.fetches.fill(None);
        Ok(())
    }

    /// Where it listens, for its own organisation and for others.
    pub(crate) fn endpoints(&self) -> [Endpoint; 2] {
        let config = &self.config;
        [&config.internal_endpoint, &config.external_endpoint].map(Clone::clone)
    }

    /// What it signs with, as the core has it.
    pub(crate) fn local(&self) -> &LocalPeer {
        self.gossip.me()
    }
}

pub(crate) fn org_name(org: usize) -> String {
    format!("Org{}MSP", org + 1)
}

pub(crate) fn channel_name(channel: usize) -> String {
    format!("channel{channel}")
}

fn peer_name(index: usize) -> String {
    format!("peer{index}")
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint::new(format!("{name}:7051"))
}

/// The endpoint for other organisations. Large networks are simulated as organisations that do not know
/// each other.
fn external_endpoint(name: &str, options: &Options) -> Endpoint {
    if options.has_background() {
        Endpoint::new(format!("{name}.example.com:7051"))
    } else {
        Endpoint::from("")
    }
}

fn config(name: &str, org: usize, options: &Options) -> Config {
    let mut config = Config {
        internal_endpoint: endpoint(name),
        external_endpoint: external_endpoint(name, options),
        bootstrap: vec![endpoint(&peer_name(org))],
        rules: options.rules,
        use_leader_election: options.elections,
        limits: bounds::limits(options),
        ..Config::default()
    };
    config.state.enabled = options.state_transfer;
    if !options.has_background() {
        let never = std::time::Duration::from_secs(1_000_000);
        config.alive_time_interval = never;
        config.alive_expiration_timeout = never;
        config.alive_expiration_check_interval = never;
        config.reconnect_interval = never;
        config.publish_state_info_interval = never;
        config.request_state_info_interval = never;
    }
    config
}

fn core(
    identity: &Identity,
    config: &Arc<Config>,
    seed: u64,
    index: usize,
    run: u32,
    base: Instant,
    now: Nanos,
) -> Result<Gossip<SimBlock>, ConfigError> {
    let mut bytes = [0; 32];
    let parts = [seed, index as u64, u64::from(run)];
    for (place, part) in bytes.chunks_exact_mut(8).zip(parts) {
        place.copy_from_slice(&part.to_le_bytes());
    }
    Gossip::new(Setup {
        config: config.clone(),
        identity: identity.clone(),
        signer: Arc::new(Key(identity.pki_id())),
        seed: bytes,
        now: base + std::time::Duration::from_nanos(now),
        unix_nanos: EPOCH + now,
    })
}
