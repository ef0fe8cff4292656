//! How to fetch.

use std::time::Duration;

use selvedge_transport::{ConnectOptions, CurrentIdentity, MAX_MESSAGE_SIZE};

/// How much one ordering node is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Ordering nodes may crash, but do not withhold blocks (etcdraft; BFT channels with
    /// `peer.deliveryclient.policy: simple`).
    Cft,
    /// Any single one may be malicious (BFT channels, `policy: cluster`).
    Bft,
}

/// How to fetch the blocks of one channel. The defaults are core.yaml's.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// How much one ordering node is trusted.
    pub mode: Mode,
    /// `peer.tls.enabled`.
    pub tls_enabled: bool,
    /// The client certificate; set where `peer.tls.clientAuthRequired` is true. Requests then name
    /// its hash, as ordering nodes that require client certificates demand.
    pub tls_identity: Option<CurrentIdentity>,
    /// `peer.deliveryclient.connTimeout` and `peer.keepalive.deliveryClient`. A node that is gone
    /// without a word is found by the keepalive.
    pub connect: ConnectOptions,
    /// The pause after the first failure. Fabric takes 100 ms on CFT channels and
    /// `peer.deliveryclient.minimalReconnectInterval` on BFT channels.
    pub retry_initial: Duration,
    /// `peer.deliveryclient.reConnectBackoffThreshold`: the longest pause.
    pub retry_max: Duration,
    /// `peer.deliveryclient.reconnectTotalTimeThreshold`: after so much pausing without a block the
    /// fetcher gives up. `None` for a static leader, and on BFT channels: never.
    pub give_up_after: Option<Duration>,
    /// `peer.deliveryclient.blockCensorshipTimeoutKey`.
    pub censorship_timeout: Duration,
    /// Verified blocks that wait to be taken.
    pub buffer: usize,
    /// The largest response, bytes (`peer.maxRecvMsgSize`).
    pub max_message: usize,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Cft,
            tls_enabled: true,
            tls_identity: None,
            connect: ConnectOptions::default(),
            retry_initial: Duration::from_millis(100),
            retry_max: Duration::from_secs(3600),
            give_up_after: Some(Duration::from_secs(3600)),
            censorship_timeout: Duration::from_secs(30),
            buffer: 10,
            max_message: MAX_MESSAGE_SIZE,
        }
    }
}
