//! TLS certificates that are renewed in their files while the peer runs.

use std::sync::Arc;
use std::time::Duration;

use selvedge_transport::gossip::GossipTransport;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::certificates::{self, Certificate};
use crate::channel::Channels;
use crate::metrics::Metrics;
use crate::tls::PeerTls;

const LOGGER: &str = "certmonitor";
/// The pause between two looks at the files.
const INTERVAL: Duration = Duration::from_secs(5);

/// Follows the files of the peer's TLS certificates.
pub(super) struct Renewal {
    pub tls: Arc<PeerTls>,
    pub channels: Channels,
    pub transport: GossipTransport,
    pub metrics: Metrics,
}

impl Renewal {
    /// Takes what is renewed until the peer stops, and warns before what is in use expires.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut expiries = self.watch_expiries(&stop);
        let mut complaint = None;
        while stop
            .run_until_cancelled(tokio::time::sleep(INTERVAL))
            .await
            .is_some()
        {
            match self.renew().await {
                Ok(false) => complaint = None,
                Ok(true) => {
                    tracing::info!(target: LOGGER, "A renewed TLS certificate is in use");
                    expiries = self.watch_expiries(&stop);
                    complaint = None;
                }
                // Certificate and key are two files, so one may be new and the other not yet.
                Err(error) if complaint.as_ref() != Some(&error) => {
                    tracing::warn!(
                        target: LOGGER,
                        "TLS certificates stay as they are, their files cannot be used: {error}"
                    );
                    complaint = Some(error);
                }
                Err(_) => {}
            }
        }
        expiries.shutdown().await;
    }

    async fn renew(&self) -> Result<bool, String> {
        let tls = self.tls.clone();
        let reading = tokio::task::spawn_blocking(move || tls.renew()).await;
        let renewed = reading.map_err(|panic| panic.to_string())?;
        let renewed = renewed.map_err(|error| error.to_string())?;
        if renewed {
            let client = self.tls.client(&self.channels);
            self.transport
                .set_client_tls(client.map_err(|error| error.to_string())?);
        }
        Ok(renewed)
    }

    /// Measures when the certificates in use expire, and warns before. Ends when the result is dropped.
    fn watch_expiries(&self, stop: &CancellationToken) -> JoinSet<()> {
        let server = self.tls.server().identity();
        let client = self.tls.client_identity().get();
        let mut watches = JoinSet::new();
        for (role, label, identity) in [
            ("server TLS", "tls_server", server),
            ("client TLS", "tls_client", client),
        ] {
            let Some(expires_at) = certificates::expires_at(identity.certificate()) else {
                continue;
            };
            self.metrics.set_certificate_expiry(label, expires_at);
            let certificate = Certificate { role, expires_at };
            watches.spawn(certificates::watch(certificate, stop.clone()));
        }
        watches
    }
}
