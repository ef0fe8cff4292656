//! The filters in front of the endorser (Fabric: core/handlers/auth/filter).

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use selvedge_protos::common::{ChannelHeader, Header, SignatureHeader};
use selvedge_protos::protos::{Proposal, SignedProposal};
use selvedge_protos::{DecodeError, Message};

/// Why a filter does not let a proposal pass.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A part that the filter looks at does not parse.
    #[error("failed parsing {part}: {source}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What the decoder says.
        source: DecodeError,
    },
    /// The certificate of the creator has expired.
    #[error("proposal client identity expired")]
    Expired,
    /// The time in the proposal is too far from ours.
    #[error(
        "request unauthorized due to incorrect timestamp {}, peer time {}, \
         peer.authentication.timewindow {}",
        rfc3339(*found),
        rfc3339(*now),
        go_duration(*window)
    )]
    Timestamp {
        /// As the proposal says, seconds since 1970.
        found: i64,
        /// Our time.
        now: i64,
        /// How far apart they may be.
        window: Duration,
    },
}

/// `ExpirationCheck`: refuses creators whose certificate has expired, whoever issued it. Creators
/// without a readable certificate are left to the endorser.
pub fn check_expiration(signed: &SignedProposal) -> Result<(), FilterError> {
    let header = SignatureHeader::decode(header(signed)?.signature_header)
        .map_err(malformed("signature header"))?;
    match selvedge_msp::expires_at(&header.creator) {
        Ok(end) if end < SystemTime::now() => Err(FilterError::Expired),
        _ => Ok(()),
    }
}

/// `TimeWindowCheck`: refuses proposals whose time is further from ours than `window`. One without a
/// time was made in 1970.
pub fn check_time_window(
    signed: &SignedProposal,
    window: Duration,
    now: SystemTime,
) -> Result<(), FilterError> {
    let header = ChannelHeader::decode(header(signed)?.channel_header)
        .map_err(malformed("channel header"))?;
    let found = header.timestamp.unwrap_or_default();
    let nanoseconds = i128::from(found.seconds) * 1_000_000_000 + i128::from(found.nanos);
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let apart = nanoseconds.abs_diff(i128::try_from(now.as_nanos()).unwrap_or(i128::MAX));
    if apart <= window.as_nanos() {
        return Ok(());
    }
    Err(FilterError::Timestamp {
        found: found.seconds,
        now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        window,
    })
}

fn header(signed: &SignedProposal) -> Result<Header, FilterError> {
    let proposal =
        Proposal::decode(signed.proposal_bytes.clone()).map_err(malformed("proposal"))?;
    Header::decode(proposal.header).map_err(malformed("header"))
}

fn malformed(part: &'static str) -> impl FnOnce(DecodeError) -> FilterError {
    move |source| FilterError::Malformed { part, source }
}

fn rfc3339(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => format!("{seconds} s since 1970"),
    }
}

/// As Go prints a duration: `15m0s`.
fn go_duration(duration: Duration) -> String {
    let total = duration.as_secs();
    if total == 0 {
        return format!("{duration:?}");
    }
    let (hours, minutes) = (total / 3600, total / 60 % 60);
    let seconds = Duration::new(total % 60, duration.subsec_nanos()).as_secs_f64();
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(900_000, "15m0s")]
    #[case(1_500, "1.5s")]
    #[case(250, "250ms")]
    #[case(3_661_000, "1h1m1s")]
    fn durations_are_printed_as_go_does(#[case] milliseconds: u64, #[case] expected: &str) {
        assert_eq!(go_duration(Duration::from_millis(milliseconds)), expected);
    }

    fn proposal(seconds: i64) -> SignedProposal {
        let header = ChannelHeader {
            timestamp: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        let header = Header {
            channel_header: header.encode_to_vec().into(),
            ..Default::default()
        };
        let proposal = Proposal {
            header: header.encode_to_vec().into(),
            ..Default::default()
        };
        SignedProposal {
            proposal_bytes: proposal.encode_to_vec().into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_window_reaches_both_ways() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let check = |seconds| {
            check_time_window(&proposal(seconds), Duration::from_secs(60), now)
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(9_940), Ok(()));
        assert_eq!(check(10_060), Ok(()));
        assert_eq!(
            check(10_061).unwrap_err(),
            "request unauthorized due to incorrect timestamp 1970-01-01T02:47:41Z, peer time \
             1970-01-01T02:46:40Z, peer.authentication.timewindow 1m0s"
        );
        assert!(check(9_939).is_err());
        assert!(check(i64::MIN).is_err());
    }

    #[test]
    fn what_does_not_parse_is_named() {
        let signed = SignedProposal {
            proposal_bytes: vec![0xff].into(),
            ..Default::default()
        };
        let error = check_expiration(&signed).unwrap_err().to_string();
        assert!(error.starts_with("failed parsing proposal: "), "{error}");
    }
}
