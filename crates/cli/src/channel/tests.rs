use selvedge_protos::common::{BlockchainInfo, BootstrappingSnapshotInfo};

use selvedge_peer::config::Sources;

use super::*;

#[test]
fn blockchain_info_is_printed_as_go_does() {
    let info = BlockchainInfo {
        height: 3,
        current_block_hash: Bytes::from_static(&[0xfb, 0xff, 0]),
        previous_block_hash: Bytes::from_static(b"previous"),
        bootstrapping_snapshot_info: None,
    };
    assert_eq!(
        getinfo::json(&info).unwrap(),
        r#"{"height":3,"currentBlockHash":"+/8A","previousBlockHash":"cHJldmlvdXM="}"#
    );
    let info = BlockchainInfo {
        height: 1,
        current_block_hash: Bytes::from_static(b"x"),
        bootstrapping_snapshot_info: Some(BootstrappingSnapshotInfo {
            last_block_in_snapshot: 7,
        }),
        ..BlockchainInfo::default()
    };
    assert_eq!(
        getinfo::json(&info).unwrap(),
        r#"{"height":1,"currentBlockHash":"eA==","bootstrappingSnapshotInfo":{"lastBlockInSnapshot":7}}"#
    );
}

#[test]
fn flags_replace_what_is_configured_of_the_ordering_node() {
    let yaml = "peer: {localMspId: x, mspConfigPath: msp}\n\
                orderer: {address: 'a:1', tls: {enabled: true, serverhostoverride: a}}\n";
    let sources = Sources::new(Path::new("/core.yaml"), yaml, []).unwrap();
    let mut config = sources.client().unwrap().config;
    assert_eq!(config.orderer.address, "a:1");
    let flags = OrdererArgs {
        address: "b:2".to_owned(),
        ..OrdererArgs::default()
    };
    set_orderer(&mut config, flags);
    assert_eq!(config.orderer.address, "b:2");
    assert!(!config.orderer.tls_enabled);
    assert_eq!(config.orderer.server_host_override, None);
}
