//! The values of core.yaml in the words of those who use them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use selvedge_gossip::config as gossip_config;
use selvedge_gossip::types::Endpoint;
use selvedge_transport::gossip::GossipOptions;
use selvedge_transport::{ConnectOptions, ConnectionCounters, ServerOptions};

use crate::channel::ChannelOptions;
use crate::config::{AuthFilter, PeerConfig};
use crate::services::deliver::DeliverOptions;
use crate::services::endorser::EndorserOptions;

/// The protocol core.
pub(super) fn gossip(config: &PeerConfig) -> gossip_config::Config {
    let gossip = &config.gossip;
    gossip_config::Config {
        internal_endpoint: Endpoint::from(gossip.endpoint.as_str()),
        external_endpoint: Endpoint::from(gossip.external_endpoint.as_deref().unwrap_or("")),
        bootstrap: gossip
            .bootstrap
            .iter()
            .map(|peer| Endpoint::from(peer.as_str()))
            .collect(),
        propagate_iterations: gossip.propagate_iterations,
        propagate_peer_num: gossip.propagate_peer_num,
        max_propagation_burst_size: gossip.max_propagation_burst_size,
        max_propagation_burst_latency: gossip.max_propagation_burst_latency,
        max_block_count_to_store: gossip.max_block_count_to_store as u64,
        pull_interval: gossip.pull_interval,
        pull_peer_num: gossip.pull_peer_num,
        digest_wait_time: gossip.digest_wait_time,
        request_wait_time: gossip.request_wait_time,
        response_wait_time: gossip.response_wait_time,
        publish_cert_period: gossip.publish_cert_period,
        publish_state_info_interval: gossip.publish_state_info_interval,
        request_state_info_interval: gossip.request_state_info_interval,
        membership_tracker_interval: gossip.membership_tracker_interval,
        alive_time_interval: gossip.alive_time_interval,
        alive_expiration_timeout: gossip.alive_expiration_timeout,
        alive_expiration_check_interval: gossip.alive_expiration_check_interval(),
        reconnect_interval: gossip.reconnect_interval,
        max_connection_attempts: u32::try_from(gossip.max_connection_attempts).unwrap_or(u32::MAX),
        msg_expiration_factor: gossip.msg_expiration_factor,
        use_leader_election: gossip.use_leader_election,
        org_leader: gossip.org_leader,
        election: gossip.election.clone(),
        state: gossip_config::StateConfig {
            enabled: gossip.state.enabled,
            check_interval: gossip.state.check_interval,
            response_timeout: gossip.state.response_timeout,
            batch_size: gossip.state.batch_size,
            block_buffer_size: gossip.state.block_buffer_size,
            max_retries: gossip.state.max_retries,
            channel_size: gossip.state.channel_size,
        },
        ..Default::default()
    }
}

/// The streams between peers.
pub(super) fn streams(config: &PeerConfig) -> GossipOptions {
    let gossip = &config.gossip;
    let keepalive = config.keepalive.client;
    GossipOptions {
        connect: ConnectOptions {
            timeout: gossip.dial_timeout,
            keepalive_interval: keepalive.interval,
            keepalive_timeout: keepalive.timeout,
        },
        handshake_timeout: gossip.conn_timeout,
        send_buffer: gossip.send_buff_size,
        receive_buffer: gossip.recv_buff_size,
        max_frame: config.max_recv_msg_size,
        ..Default::default()
    }
}

/// The gRPC server.
pub(super) fn server(config: &PeerConfig, counters: Arc<ConnectionCounters>) -> ServerOptions {
    ServerOptions {
        handshake_timeout: config.connection_timeout,
        keepalive_interval: config.keepalive.interval,
        keepalive_timeout: config.keepalive.timeout,
        counters,
        ..Default::default()
    }
}

/// The channels.
pub(super) fn channels(config: &PeerConfig) -> ChannelOptions {
    ChannelOptions {
        workers: NonZeroUsize::new(config.validator_pool_size).unwrap_or(NonZeroUsize::MIN),
        stated: config.ledger.stated_verdicts.clone(),
        history: config.ledger.history_enabled,
        organization: Some(config.local_msp.id.as_str().into()),
    }
}

/// The endorser service.
pub(super) fn endorser(config: &PeerConfig) -> EndorserOptions {
    let filters = &config.auth_filters;
    EndorserOptions {
        concurrency: NonZeroUsize::new(config.limits.endorser_service),
        check_expiration: filters.contains(&AuthFilter::ExpirationCheck),
        time_window: filters
            .contains(&AuthFilter::TimeWindowCheck)
            .then_some(config.authentication_time_window),
    }
}

/// The deliver service.
pub(super) fn deliver(config: &PeerConfig) -> DeliverOptions {
    DeliverOptions {
        time_window: config.authentication_time_window,
        bind_to_tls: config.tls.enabled && config.tls.client_auth_required,
        concurrency: NonZeroUsize::new(config.limits.deliver_service),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Sources;

    #[test]
    fn what_the_file_says_of_state_transfer_is_what_the_core_gets() {
        let yaml = "
peer:
  address: 127.0.0.1:7051
  listenAddress: 127.0.0.1:7051
  fileSystemPath: /var/peer
  mspConfigPath: msp
  localMspId: Org1MSP
  gossip:
    state:
      enabled: true
      checkInterval: 11s
      responseTimeout: 4s
      batchSize: 12
      blockBufferSize: 21
      maxRetries: 5
      channelSize: 7
";
        let none = std::iter::empty::<(String, String)>();
        let sources = Sources::new(Path::new("core.yaml"), yaml, none).unwrap();
        let state = gossip(&sources.peer().unwrap().config).state;
        assert!(state.enabled);
        assert_eq!(
            (
                state.check_interval.as_secs(),
                state.response_timeout.as_secs()
            ),
            (11, 4)
        );
        assert_eq!((state.batch_size, state.block_buffer_size), (12, 21));
        assert_eq!((state.max_retries, state.channel_size), (5, 7));
    }
}
