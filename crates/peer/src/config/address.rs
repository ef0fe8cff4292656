//! `host:port` strings and the peer's own address (core/peer/config.go).

use std::net::{IpAddr, Ipv4Addr};

/// What a wrong address is told to look like.
pub(super) const EXPECTED: &str = "host:port, such as peer0.example.com:7051 or [::1]:7051";

/// Splits `host:port` as Go's `net.SplitHostPort` does: an IPv6 host stands in brackets, the host
/// may be empty. The port must be a number.
pub fn split_host_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains([':', '[', ']']) => return None,
        None => host,
    };
    if host.contains(char::is_whitespace) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((host, port.parse().ok()?))
}

/// The address under which the peer is known: the host's own IPv4 address with the configured
/// port, if the configured host is unspecified (`0.0.0.0`, `::`) or detection is asked for;
/// otherwise what is configured. `None`: the host's address is needed and there is none.
///
/// Fabric refuses to start without an IPv4 address other than loopback even where it is not
/// needed; here that does no harm.
pub(super) fn own_address(
    configured: &str,
    host: &str,
    port: u16,
    detect: bool,
    local_ip: impl FnOnce() -> Option<Ipv4Addr>,
) -> Option<String> {
    let unspecified = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    if unspecified || detect {
        local_ip().map(|ip| format!("{ip}:{port}"))
    } else {
        Some(configured.to_owned())
    }
}

/// The first IPv4 address of this host that is not loopback.
pub(super) fn local_ip() -> Option<Ipv4Addr> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    interfaces
        .into_iter()
        .find_map(|interface| match interface.ip() {
            IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("peer0.org1:7051", Some(("peer0.org1", 7051)))]
    #[case("0.0.0.0:0", Some(("0.0.0.0", 0)))]
    #[case(":7051", Some(("", 7051)))]
    #[case("[::1]:7051", Some(("::1", 7051)))]
    #[case("::1:7051", None)]
    #[case("peer0", None)]
    #[case("peer0:", None)]
    #[case("peer0:70510", None)]
    #[case("peer0:+1", None)]
    #[case("a:1,b:2", None)]
    #[case("a b:1", None)]
    #[case("[::1:7051", None)]
    fn splitting(#[case] address: &str, #[case] expected: Option<(&str, u16)>) {
        assert_eq!(split_host_port(address), expected);
    }

    #[rstest]
    #[case("peer0:7051", false, Some("peer0:7051"))]
    #[case("peer0:7051", true, Some("10.1.2.3:7051"))]
    #[case("0.0.0.0:7051", false, Some("10.1.2.3:7051"))]
    #[case("[::]:7051", false, Some("10.1.2.3:7051"))]
    #[case("127.0.0.1:7051", false, Some("127.0.0.1:7051"))]
    fn own_address_follows_fabric(
        #[case] configured: &str,
        #[case] detect: bool,
        #[case] expected: Option<&str>,
    ) {
        let (host, port) = split_host_port(configured).unwrap();
        let ip = || Some(Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!(
            own_address(configured, host, port, detect, ip).as_deref(),
            expected
        );
    }

    #[test]
    fn without_an_interface_only_detection_fails() {
        assert_eq!(
            own_address("a:1", "a", 1, false, || None).as_deref(),
            Some("a:1")
        );
        assert_eq!(own_address("0.0.0.0:1", "0.0.0.0", 1, false, || None), None);
    }
}
