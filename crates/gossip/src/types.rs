//! The names that peers, channels and organisations go by. All are cheap to copy or share.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_protos::sha256_of_parts;

/// The id of a peer: SHA-256 over its MSP id and certificate, see
/// [`selvedge_protos::identity::pki_id`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PkiId(pub [u8; 32]);

impl PkiId {
    /// The id in `bytes`, if they are 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes as they stand in messages.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PkiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The first eight hex digits, enough to tell peers apart in logs and test failures.
impl fmt::Debug for PkiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .take(4)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

macro_rules! shared_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Shares `name`.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

shared_name! {
    /// The name of a channel.
    ChannelId
}

shared_name! {
    /// An organisation, by its MSP id (Fabric's `OrgIdentityType` is exactly that).
    OrgId
}

shared_name! {
    /// `host:port`. Empty means that the peer publishes none.
    Endpoint
}

impl Endpoint {
    /// Whether no endpoint is published.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&ChannelId> for Arc<str> {
    /// Shares the name.
    fn from(channel: &ChannelId) -> Self {
        channel.0.clone()
    }
}

impl ChannelId {
    /// What proves, together with a signature, that the peer `author` knows this channel's name:
    /// SHA-256 of its PKI-ID and the name (Fabric: `channel.GenerateMAC`).
    pub fn mac(&self, author: &PkiId) -> [u8; 32] {
        sha256_of_parts([author.as_bytes(), self.as_str().as_bytes()])
    }
}

/// A peer to send to: who it must be, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Who must answer there.
    pub pki_id: PkiId,
    /// Where to dial if there is no stream yet: the internal endpoint if it is known, otherwise the
    /// external one (Fabric: `PreferredEndpoint`).
    pub endpoint: Endpoint,
}

/// When a message was made: the start of its author in nanoseconds since 1970 ("incarnation"), then a
/// number that grows within that run. Ordered as Fabric orders them: a later incarnation wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerTime {
    /// `inc_num`: start of the author in nanoseconds since 1970.
    pub incarnation: u64,
    /// `seq_num`.
    pub sequence: u64,
}

/// Turns the [`Instant`]s that come from outside into wall time. Wall time enters the protocol only
/// where Fabric puts it on the wire (incarnations, StateInfo sequence numbers) and where certificates
/// expire.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Instant,
    unix_nanos_at_base: u64,
}

impl Clock {
    /// A clock that showed `unix_nanos` (since 1970) at `base`.
    pub fn new(base: Instant, unix_nanos: u64) -> Self {
        Self {
            base,
            unix_nanos_at_base: unix_nanos,
        }
    }

    /// Nanoseconds since 1970 at `now`.
    pub fn unix_nanos(&self, now: Instant) -> u64 {
        let since_base = now.saturating_duration_since(self.base).as_nanos();
        self.unix_nanos_at_base
            .saturating_add(u64::try_from(since_base).unwrap_or(u64::MAX))
    }

    /// When `unix_nanos` will be; `None` if it is past at `now` or beyond what an instant holds.
    pub fn instant_of(&self, unix_nanos: u64, now: Instant) -> Option<Instant> {
        let ahead = unix_nanos.checked_sub(self.unix_nanos(now))?;
        now.checked_add(Duration::from_nanos(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_incarnation_wins_over_higher_sequence() {
        let old = PeerTime {
            incarnation: 1,
            sequence: 900,
        };
        let new = PeerTime {
            incarnation: 2,
            sequence: 1,
        };
        assert!(new > old);
    }

    #[test]
    fn clock_counts_from_its_base() {
        let base = crate::testing::start();
        let clock = Clock::new(base, 1_000);
        assert_eq!(clock.unix_nanos(base + Duration::from_nanos(5)), 1_005);
        assert_eq!(
            clock.instant_of(1_010, base + Duration::from_nanos(5)),
            Some(base + Duration::from_nanos(10))
        );
        assert_eq!(clock.instant_of(999, base), None);
    }
}
