//! When the peer's own certificates expire: a metric, and a warning a week before
//! (Fabric: common/crypto, `TrackExpiration`).

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

const LOGGER: &str = "certmonitor";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A certificate of this peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Certificate {
    /// Its role in Fabric's words.
    pub role: &'static str,
    /// When it expires.
    pub expires_at: SystemTime,
}

/// The end of the validity of a DER certificate; `None` if it does not parse.
pub(super) fn expires_at(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// What there is to say of a certificate.
#[derive(Debug, PartialEq, Eq)]
enum Notice {
    Expired,
    Soon {
        days: u64,
        hours: u64,
    },
    /// To be warned of after this time.
    Later(Duration),
}

fn notice(expires_at: SystemTime, now: SystemTime) -> Notice {
    let Ok(left) = expires_at.duration_since(now) else {
        return Notice::Expired;
    };
    match left.checked_sub(WEEK) {
        Some(later) if !later.is_zero() => Notice::Later(later),
        _ => {
            let hours = left.as_secs() / 3600;
            Notice::Soon {
                days: hours / 24,
                hours: hours % 24,
            }
        }
    }
}

/// Says now when a certificate expires, and warns a week before.
pub(super) async fn watch(certificate: Certificate, stop: CancellationToken) {
    let Certificate {
        role, expires_at, ..
    } = certificate;
    match notice(expires_at, SystemTime::now()) {
        Notice::Expired => {
            tracing::warn!(target: LOGGER, "The {role} certificate has expired");
            return;
        }
        first => {
            tracing::info!(target: LOGGER, "The {role} certificate will expire on {}", Utc(expires_at));
            if let Notice::Soon { days, hours } = first {
                tracing::warn!(
                    target: LOGGER,
                    "The {role} certificate expires within {days} days and {hours} hours"
                );
                return;
            }
        }
    }
    // Day by day: the clock may be set, and the machine may sleep.
    while let Notice::Later(later) = notice(expires_at, SystemTime::now()) {
        let pause = tokio::time::sleep(later.min(DAY));
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
    tracing::warn!(target: LOGGER, "The {role} certificate will expire within one week");
}

/// A time as Go prints it.
struct Utc(SystemTime);

impl std::fmt::Display for Utc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Timestamp::try_from(self.0) {
            Ok(time) => write!(f, "{} UTC", time.strftime("%Y-%m-%d %H:%M:%S +0000")),
            Err(_) => f.write_str("a day that no clock can show"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_week_makes_the_difference() {
        let week = WEEK.as_secs();
        assert_eq!(notice(after(9), after(10)), Notice::Expired);
        assert_eq!(
            notice(after(10 + 2 * 86_400 + 3 * 3600 + 59), after(10)),
            Notice::Soon { days: 2, hours: 3 }
        );
        assert_eq!(
            notice(after(week), after(0)),
            Notice::Soon { days: 7, hours: 0 }
        );
        assert_eq!(
            notice(after(week + 5), after(0)),
            Notice::Later(Duration::from_secs(5))
        );
    }

    #[test]
    fn times_are_printed_as_go_does() {
        assert_eq!(Utc(after(0)).to_string(), "1970-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn the_end_of_a_certificate_is_found() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        let certificate = params.self_signed(&key).unwrap();
        let end = expires_at(certificate.der()).unwrap();
        assert_eq!(Utc(end).to_string(), "2031-05-06 00:00:00 +0000 UTC");
        assert_eq!(expires_at(b"no certificate"), None);
    }
}
