//! Configuration of the nodes and of the channel: core.yaml, orderer.yaml and configtx.yaml, written
//! as JSON, which is YAML too. Both kinds of peer read the same core.yaml.

use std::path::Path;

use selvedge_devnet::material::{Organization, TlsFolder};
use serde_json::{Map, Value, json};

use super::network::{Consensus, Lead, Plan, Ports, Timers};

/// What a node is told.
pub struct NodeSettings<'a> {
    pub plan: &'a Plan,
    pub organization: &'a Organization,
    /// Whose MSP and TLS material it has.
    pub host: &'a str,
    pub ports: Ports,
    /// TLS CA certificates of all organisations.
    pub tls_authorities: &'a [String],
}

impl NodeSettings<'_> {
    /// A peer's core.yaml. It keeps its data in `data`; `bootstrap` are addresses of peers of its
    /// organisation.
    pub fn core_yaml(&self, name: &str, data: &Path, lead: Lead, bootstrap: &[String]) -> Value {
        let TlsFolder {
            certificate,
            key,
            authority,
        } = self.organization.node_tls(self.host);
        let address = self.ports.address();
        let chaincode = loopback(self.ports.extra);
        let mut gossip = json!({
            "bootstrap": bootstrap,
            "endpoint": address,
            "externalEndpoint": address,
            "useLeaderElection": lead == Lead::Elected,
            "orgLeader": lead == Lead::Always,
            "pvtData": {
                "pullRetryThreshold": "5s", "transientstoreMaxBlockRetention": 1000,
                "pushAckTimeout": "3s", "btlPullMargin": 10, "reconcileBatchSize": 10,
                "reconcileSleepInterval": "1m", "reconciliationEnabled": true,
                "implicitCollectionDisseminationPolicy": {"requiredPeerCount": 0, "maxPeerCount": 1},
            },
            "state": {
                "enabled": true, "checkInterval": "10s", "responseTimeout": "3s", "batchSize": 10,
                "blockBufferSize": 20, "maxRetries": 3,
            },
        });
        if self.plan.timers == Timers::Brisk {
            merge(&mut gossip, brisk());
        }
        json!({
            "peer": {
                "id": name,
                "networkId": "interop",
                "listenAddress": address,
                "address": address,
                "chaincodeListenAddress": chaincode,
                "chaincodeAddress": chaincode,
                "localMspId": self.organization.specification().msp_id,
                "mspConfigPath": self.organization.node_msp(self.host),
                "fileSystemPath": data,
                "tls": {
                    "enabled": true,
                    "clientAuthRequired": self.plan.mutual_tls,
                    "cert": {"file": certificate},
                    "key": {"file": key},
                    "rootcert": {"file": authority},
                    "clientRootCAs": {"files": self.tls_authorities},
                    "clientCert": {"file": certificate},
                    "clientKey": {"file": key},
                },
                "BCCSP": bccsp(),
                "authentication": {"timewindow": "15m"},
                "client": {"connTimeout": "3s"},
                "handlers": {
                    "authFilters": [{"name": "DefaultAuth"}, {"name": "ExpirationCheck"}],
                    "decorators": [{"name": "DefaultDecorator"}],
                    "endorsers": {"escc": {"name": "DefaultEndorsement"}},
                    "validators": {"vscc": {"name": "DefaultValidation"}},
                },
                "gossip": gossip,
                "deliveryclient": {
                    "blockGossipEnabled": true, "connTimeout": "3s",
                    "reconnectTotalTimeThreshold": "3600s", "reConnectBackoffThreshold": "5s",
                },
                "discovery": {
                    "enabled": true, "authCacheEnabled": true, "authCacheMaxSize": 1000,
                    "authCachePurgeRetentionRatio": 0.75, "orgMembersAllowedAccess": false,
                },
                "limits": {"concurrency": {
                    "endorserService": 2500, "deliverService": 2500, "gatewayService": 500,
                }},
            },
            // Named because the peer insists, and used only for chaincodes and /healthz.
            "vm": {"endpoint": "unix:///no/docker/here"},
            "chaincode": {
                "mode": "net", "startuptimeout": "300s", "executetimeout": "30s",
                "installTimeout": "300s",
                "system": {"_lifecycle": "enable", "cscc": "enable", "lscc": "enable", "qscc": "enable"},
                "externalBuilders": [],
                "logging": {"level": "info", "shim": "warning"},
            },
            "ledger": {
                "state": {"stateDatabase": "goleveldb", "totalQueryLimit": 100_000},
                "history": {"enableHistoryDatabase": true},
                "snapshots": {"rootDir": data.join("snapshots")},
                "pvtdataStore": {
                    "collElgProcMaxDbBatchSize": 5000, "collElgProcDbBatchesInterval": 1000,
                    "deprioritizedDataReconcilerInterval": "60m", "purgeInterval": 100,
                },
            },
            "operations": {"listenAddress": loopback(self.ports.operations)},
            "metrics": {"provider": "prometheus"},
        })
    }

    /// An ordering node's orderer.yaml.
    pub fn orderer_yaml(&self) -> Value {
        let TlsFolder {
            certificate, key, ..
        } = self.organization.node_tls(self.host);
        json!({
            "General": {
                "ListenAddress": "127.0.0.1",
                "ListenPort": self.ports.service,
                "TLS": {
                    "Enabled": true, "PrivateKey": key, "Certificate": certificate,
                    "RootCAs": self.tls_authorities,
                    "ClientAuthRequired": self.plan.mutual_tls,
                    "ClientRootCAs": self.tls_authorities,
                },
                "Cluster": {
                    "SendBufferSize": 100, "ClientCertificate": certificate,
                    "ClientPrivateKey": key, "RootCAs": self.tls_authorities,
                },
                "BootstrapMethod": "none",
                "LocalMSPDir": self.organization.node_msp(self.host),
                "LocalMSPID": self.organization.specification().msp_id,
                "BCCSP": bccsp(),
                "Authentication": {"TimeWindow": "15m"},
            },
            "FileLedger": {"Location": "ledger"},
            "Operations": {"ListenAddress": loopback(self.ports.operations)},
            "Metrics": {"Provider": "prometheus"},
            "Admin": {
                "ListenAddress": loopback(self.ports.extra),
                "TLS": {
                    "Enabled": true, "PrivateKey": key, "Certificate": certificate,
                    "ClientAuthRequired": true, "ClientRootCAs": self.tls_authorities,
                },
            },
            "ChannelParticipation": {"Enabled": true, "MaxRequestBodySize": "1 MB"},
            "Consensus": {"WALDir": "wal", "SnapDir": "snap"},
        })
    }
}

/// Timers of gossip for scenarios that wait for several of them.
fn brisk() -> Value {
    json!({
        "membershipTrackerInterval": "1s",
        "requestStateInfoInterval": "2s",
        "publishStateInfoInterval": "2s",
        "aliveTimeInterval": "2s",
        "aliveExpirationTimeout": "10s",
        "reconnectInterval": "5s",
        "election": {
            "startupGracePeriod": "5s", "membershipSampleInterval": "1s",
            "leaderAliveThreshold": "5s", "leaderElectionDuration": "2s",
        },
    })
}

fn bccsp() -> Value {
    json!({"Default": "SW", "SW": {"Hash": "SHA2", "Security": 256}})
}

/// The profile of [`configtx_yaml`].
pub const PROFILE: &str = "Interop";

/// What configtxgen makes the genesis block from. Every message is a block of its own, and no
/// organisation has an anchor peer.
pub fn configtx_yaml(
    plan: &Plan,
    v3: bool,
    ordering: &Organization,
    orderers: &[(&str, Ports)],
    applications: &[Organization],
) -> Value {
    let capability = if v3 { "V3_0" } else { "V2_0" };
    let mut orderer = json!({
        "BatchTimeout": "200ms",
        "BatchSize": {
            "MaxMessageCount": 1, "AbsoluteMaxBytes": "10 MB", "PreferredMaxBytes": "2 MB",
        },
        "Capabilities": {"V2_0": true},
        "Policies": meta_policies(&[("BlockValidation", "ANY Writers")]),
        "Organizations": [ordering_organization(ordering, orderers)],
    });
    merge(&mut orderer, consensus(plan.consensus, ordering, orderers));
    let endorsement = "MAJORITY Endorsement";
    let policies = [
        ("LifecycleEndorsement", endorsement),
        ("Endorsement", endorsement),
    ];
    let applications = applications.iter().map(|organization| {
        organization_of(
            organization,
            &[
                ("Readers", "OR('ID.admin', 'ID.peer', 'ID.client')"),
                ("Writers", "OR('ID.admin', 'ID.client')"),
                ("Admins", "OR('ID.admin')"),
                ("Endorsement", "OR('ID.peer')"),
            ],
        )
    });
    json!({"Profiles": {PROFILE: {
        "Capabilities": {capability: true},
        "Policies": meta_policies(&[]),
        "Orderer": orderer,
        "Application": {
            "Capabilities": {"V2_5": true},
            "Policies": meta_policies(&policies),
            "Organizations": applications.collect::<Vec<_>>(),
        },
    }}})
}

fn ordering_organization(ordering: &Organization, orderers: &[(&str, Ports)]) -> Value {
    let policies = [
        ("Readers", "OR('ID.member')"),
        ("Writers", "OR('ID.member')"),
        ("Admins", "OR('ID.admin')"),
    ];
    let mut organization = organization_of(ordering, &policies);
    let endpoints: Vec<_> = orderers.iter().map(|(_, ports)| ports.address()).collect();
    merge(&mut organization, json!({"OrdererEndpoints": endpoints}));
    organization
}

fn organization_of(organization: &Organization, policies: &[(&str, &str)]) -> Value {
    let specification = organization.specification();
    let policy = |(name, rule): &(&str, &str)| {
        let rule = rule.replace("ID", &specification.msp_id);
        (name.to_string(), json!({"Type": "Signature", "Rule": rule}))
    };
    json!({
        "Name": specification.name,
        "ID": specification.msp_id,
        "MSPDir": organization.msp(),
        "Policies": policies.iter().map(policy).collect::<Map<_, _>>(),
    })
}

fn meta_policies(more: &[(&str, &str)]) -> Value {
    let usual = [
        ("Readers", "ANY Readers"),
        ("Writers", "ANY Writers"),
        ("Admins", "MAJORITY Admins"),
    ];
    let policy = |(name, rule): &(&str, &str)| {
        let policy = json!({"Type": "ImplicitMeta", "Rule": rule});
        (name.to_string(), policy)
    };
    usual.iter().chain(more).map(policy).collect()
}

fn consensus(kind: Consensus, ordering: &Organization, orderers: &[(&str, Ports)]) -> Value {
    let consenters = orderers.iter().enumerate().map(|(index, (host, ports))| {
        let certificate = ordering.node_tls(host).certificate;
        let mut consenter = json!({
            "Host": "127.0.0.1", "Port": ports.service,
            "ClientTLSCert": certificate, "ServerTLSCert": certificate,
        });
        if kind == Consensus::Bft {
            let file = format!("signcerts/{}-cert.pem", ordering.node_name(host));
            let identity = json!({
                "ID": index + 1,
                "MSPID": ordering.specification().msp_id,
                "Identity": ordering.node_msp(host).join(file),
            });
            merge(&mut consenter, identity);
        }
        consenter
    });
    let consenters: Vec<_> = consenters.collect();
    match kind {
        Consensus::Raft => json!({
            "OrdererType": "etcdraft",
            "EtcdRaft": {
                "Consenters": consenters,
                "Options": {
                    "TickInterval": "250ms", "ElectionTick": 10, "HeartbeatTick": 1,
                    "MaxInflightBlocks": 5, "SnapshotIntervalSize": "16 MB",
                },
            },
        }),
        Consensus::Bft => json!({
            "OrdererType": "BFT",
            "ConsenterMapping": consenters,
            "SmartBFT": {
                "RequestBatchMaxInterval": "200ms", "RequestForwardTimeout": "5s",
                "RequestComplainTimeout": "20s", "RequestAutoRemoveTimeout": "3m0s",
                "ViewChangeResendInterval": "5s", "ViewChangeTimeout": "20s",
                "LeaderHeartbeatTimeout": "1m0s", "CollectTimeout": "1s",
                "IncomingMessageBufferSize": 200, "RequestPoolSize": 100_000,
                "LeaderHeartbeatCount": 10,
            },
        }),
    }
}

pub fn loopback(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Adds the members of one object to another.
fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
