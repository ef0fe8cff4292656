//! Where a channel's configuration says that anchor peers are to be found.

use selvedge_channel::{AnchorPeer, ApplicationOrg};
use selvedge_gossip::types::Endpoint;

/// The endpoints of an organisation's anchor peers. Those that name no place are left out with a warning, as in
/// Fabric (`gossip.learnAnchorPeers`).
pub(super) fn endpoints(channel: &str, org: &ApplicationOrg) -> Vec<Endpoint> {
    let endpoint_of = |anchor: &AnchorPeer| {
        let endpoint = endpoint(anchor);
        if endpoint.is_none() {
            let AnchorPeer { host, port } = anchor;
            let org = &org.msp_id;
            tracing::warn!(channel, %org, host, port, "Skipping an anchor peer without host or port");
        }
        endpoint
    };
    org.anchor_peers.iter().filter_map(endpoint_of).collect()
}

fn endpoint(anchor: &AnchorPeer) -> Option<Endpoint> {
    let AnchorPeer { host, port } = anchor;
    let port = u16::try_from(*port).ok().filter(|port| *port != 0)?;
    let endpoint = match host.as_str() {
        "" => return None,
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    };
    Some(Endpoint::from(endpoint.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchor_peers_are_dialled_by_name_and_by_address() {
        let endpoint = |host: &str, port| {
            let host = host.to_owned();
            let endpoint = endpoint(&AnchorPeer { host, port });
            endpoint.map(|endpoint| endpoint.to_string())
        };
        let found = |host| endpoint(host, 7051).unwrap();
        assert_eq!(found("peer0.org1"), "peer0.org1:7051");
        assert_eq!(found("10.0.0.1"), "10.0.0.1:7051");
        assert_eq!(found("2001:db8::1"), "[2001:db8::1]:7051");
        assert_eq!(found("[::1]"), "[::1]:7051");
        for (host, port) in [("", 7051), ("peer0", 0), ("peer0", -1), ("peer0", 65_536)] {
            assert_eq!(endpoint(host, port), None, "{host} {port}");
        }
    }
}
