//! Where ordering nodes are, and which TLS roots they have.
//!
//! Rules of `common/deliverclient/orderers`: if any organisation names addresses, only these count,
//! each with its organisation's roots; otherwise the channel's global addresses, with the roots of
//! all ordering organisations. An override replaces address and roots.

use std::collections::HashMap;

use rustls_pki_types::CertificateDer;
use selvedge_channel::ChannelConfig;

/// What a channel's configuration says about its ordering nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrdererAddresses {
    /// Addresses of the channel, `host:port`.
    pub global: Vec<String>,
    /// The ordering organisations.
    pub organizations: Vec<OrdererOrg>,
}

/// An ordering organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrdererOrg {
    /// Its ordering nodes, `host:port`.
    pub addresses: Vec<String>,
    /// The CAs of its TLS certificates: roots and intermediate ones.
    pub tls_roots: Vec<CertificateDer<'static>>,
}

/// An entry of `peer.deliveryclient.addressOverrides`: what to use instead of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressOverride {
    /// The address to connect to.
    pub to: String,
    /// The content of `caCertsFile`. Empty if there is none; then nothing is trusted there, as in
    /// Fabric.
    pub tls_roots: Vec<CertificateDer<'static>>,
}

/// An ordering node to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Orderer {
    pub(crate) address: String,
    pub(crate) tls_roots: Vec<CertificateDer<'static>>,
}

impl From<&ChannelConfig> for OrdererAddresses {
    fn from(config: &ChannelConfig) -> Self {
        let certificates = |der: &[bytes::Bytes]| {
            der.iter()
                .map(|c| CertificateDer::from(c.to_vec()))
                .collect()
        };
        let organizations = config.orderer().organizations().values();
        Self {
            global: config.orderer_addresses().to_vec(),
            organizations: organizations
                .map(|organization| OrdererOrg {
                    addresses: organization.endpoints.clone(),
                    tls_roots: certificates(&organization.tls_ca_certs),
                })
                .collect(),
        }
    }
}

impl OrdererAddresses {
    /// The nodes to connect to, in no order that means anything.
    pub(crate) fn resolve(&self, overrides: &HashMap<String, AddressOverride>) -> Vec<Orderer> {
        let mut orderers = Vec::new();
        for organization in &self.organizations {
            for address in &organization.addresses {
                orderers.push(resolve_one(
                    address,
                    || organization.tls_roots.clone(),
                    overrides,
                ));
            }
        }
        if orderers.is_empty() {
            let all = || {
                self.organizations
                    .iter()
                    .flat_map(|o| o.tls_roots.clone())
                    .collect()
            };
            let global = self.global.iter();
            orderers.extend(global.map(|address| resolve_one(address, all, overrides)));
        }
        orderers
    }
}

fn resolve_one(
    address: &str,
    tls_roots: impl FnOnce() -> Vec<CertificateDer<'static>>,
    overrides: &HashMap<String, AddressOverride>,
) -> Orderer {
    match overrides.get(address) {
        Some(other) => Orderer {
            address: other.to.clone(),
            tls_roots: other.tls_roots.clone(),
        },
        None => Orderer {
            address: address.to_owned(),
            tls_roots: tls_roots(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(byte: u8) -> CertificateDer<'static> {
        CertificateDer::from(vec![byte])
    }

    fn organization(addresses: &[&str], byte: u8) -> OrdererOrg {
        let addresses = addresses.iter().map(|&a| a.to_owned()).collect();
        OrdererOrg {
            addresses,
            tls_roots: vec![root(byte)],
        }
    }

    fn orderer(address: &str, roots: &[u8]) -> Orderer {
        let tls_roots = roots.iter().copied().map(root).collect();
        Orderer {
            address: address.to_owned(),
            tls_roots,
        }
    }

    #[test]
    fn organisations_come_before_global_addresses() {
        let addresses = OrdererAddresses {
            global: vec!["global:1".to_owned()],
            organizations: vec![organization(&["a:1", "a:2"], 1), organization(&[], 2)],
        };
        let found = addresses.resolve(&HashMap::new());
        assert_eq!(found, [orderer("a:1", &[1]), orderer("a:2", &[1])]);
    }

    #[test]
    fn global_addresses_have_the_roots_of_all() {
        let addresses = OrdererAddresses {
            global: vec!["global:1".to_owned()],
            organizations: vec![organization(&[], 1), organization(&[], 2)],
        };
        assert_eq!(
            addresses.resolve(&HashMap::new()),
            [orderer("global:1", &[1, 2])]
        );
    }

    #[test]
    fn overrides_replace_address_and_roots() {
        let addresses = OrdererAddresses {
            global: Vec::new(),
            organizations: vec![organization(&["a:1", "a:2"], 1)],
        };
        let other = AddressOverride {
            to: "b:1".to_owned(),
            tls_roots: vec![root(9)],
        };
        let overrides = HashMap::from([("a:2".to_owned(), other)]);
        let found = addresses.resolve(&overrides);
        assert_eq!(found, [orderer("a:1", &[1]), orderer("b:1", &[9])]);
    }
}
