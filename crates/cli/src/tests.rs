use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::args::{ChannelArgs, ChannelCommand, SnapshotCommand};

fn parse_words(words: &str) -> Result<CommandLine, clap::Error> {
    parse("peer", words.split_whitespace().map(OsString::from))
}

fn channel(words: &str) -> ChannelArgs {
    match parse_words(&format!("peer channel {words}"))
        .unwrap()
        .command
    {
        Command::Channel(arguments) => *arguments,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn flags_of_the_ordering_node_may_stand_before_and_after_the_verb() {
    let after = "fetch config out.block -c ch -o orderer:7050 --tls --cafile ca.pem \
                 --clientauth --certfile c.pem --keyfile k.pem --connTimeout 1m30s \
                 --ordererTLSHostnameOverride o.example.com --tlsHandshakeTimeShift 24h --bestEffort";
    let before = "-o orderer:7050 --tls=true --cafile=ca.pem --clientauth --certfile=c.pem \
                  --keyfile k.pem --connTimeout=90s --ordererTLSHostnameOverride o.example.com \
                  --tlsHandshakeTimeShift 24h fetch --channelID ch config out.block --bestEffort=1";
    for words in [after, before] {
        let ChannelArgs { orderer, command } = channel(words);
        assert_eq!(orderer.address, "orderer:7050");
        assert!(orderer.tls && orderer.client_auth);
        assert_eq!(orderer.ca_file, Some(PathBuf::from("ca.pem")));
        assert_eq!(orderer.cert_file, Some(PathBuf::from("c.pem")));
        assert_eq!(orderer.key_file, Some(PathBuf::from("k.pem")));
        assert_eq!(orderer.conn_timeout, Duration::from_secs(90));
        assert_eq!(orderer.hostname_override.as_deref(), Some("o.example.com"));
        assert_eq!(orderer.handshake_time_shift, Duration::from_secs(24 * 3600));
        let ChannelCommand::Fetch {
            target,
            output,
            channel_id,
            best_effort,
        } = command
        else {
            panic!("{command:?}")
        };
        assert_eq!(
            (target.as_deref(), channel_id.as_str()),
            (Some("config"), "ch")
        );
        assert_eq!(output, Some(PathBuf::from("out.block")));
        assert!(best_effort);
    }
}

#[test]
fn defaults_are_fabrics() {
    let ChannelArgs { orderer, command } = channel("list");
    assert!(matches!(command, ChannelCommand::List));
    assert_eq!(
        (orderer.address.as_str(), orderer.tls, orderer.client_auth),
        ("", false, false)
    );
    assert_eq!(orderer.conn_timeout, Duration::from_secs(3));
    assert_eq!(orderer.handshake_time_shift, Duration::ZERO);
}

#[test]
fn short_flags_and_repeated_flags() {
    let ChannelCommand::Join { block_path } = channel("join -b a.block -b b.block").command else {
        panic!()
    };
    assert_eq!(
        block_path,
        Some(PathBuf::from("b.block")),
        "the last one counts"
    );
    let ChannelCommand::Getinfo { channel_id } = channel("getinfo -cch --tls=false").command else {
        panic!()
    };
    assert_eq!(channel_id.as_deref(), Some("ch"));
}

#[test]
fn node_and_version() {
    let start = |words: &str| match parse_words(words).unwrap().command {
        Command::Node(NodeCommand::Start { chaincode_dev }) => chaincode_dev,
        other => panic!("{other:?}"),
    };
    assert!(!start("selvedge node start"));
    assert!(start("peer node start --peer-chaincodedev"));
    assert!(!start("peer node start --peer-chaincodedev=false"));
    assert!(matches!(
        parse_words("peer version").unwrap().command,
        Command::Version
    ));
}

#[test]
fn devnet_has_the_defaults_of_its_crate() {
    let up = |words: &str| match parse_words(words).unwrap().command {
        Command::Devnet(DevnetCommand::Up(arguments)) => selvedge_devnet::Options::from(arguments),
        other => panic!("{other:?}"),
    };
    let default = selvedge_devnet::Options::default();
    assert_eq!(up("selvedge devnet up"), default);
    let words = "selvedge devnet up --blocks 20 --orgs 3 --peers 1 --rate 0.5 --block-size 500 \
                 --batch-timeout 1s --dir here --output json";
    let expected = selvedge_devnet::Options {
        blocks: Some(20),
        orgs: 3,
        peers: 1,
        rate: 0.5,
        block_size: 500,
        batch_timeout: Duration::from_secs(1),
        dir: Some(PathBuf::from("here")),
        output: selvedge_devnet::Output::Json,
    };
    assert_eq!(up(words), expected);
}

#[test]
fn simulate_has_the_defaults_of_its_crate() {
    let options = |words: &str| match parse_words(words).unwrap().command {
        Command::Simulate(arguments) => selvedge_simulator::Options::from(&*arguments),
        other => panic!("{other:?}"),
    };
    let default = selvedge_simulator::Options::default();
    assert_eq!(
        format!("{:?}", options("selvedge simulate")),
        format!("{default:?}")
    );
    let changed = options(
        "selvedge simulate --rules fabric --place planet --loss 0.015 --liars 0.2 \
         --partition 5s,1m,0.25 --no-state-transfer --background false --slow 0.1 --breaks 60 \
         --half-open 6 --elections --outages 3 --churn 2",
    );
    assert_eq!(changed.rules, selvedge_simulator::Rules::Fabric);
    assert_eq!(changed.place, selvedge_simulator::Place::Planet);
    assert_eq!(
        (changed.loss_per_million, changed.liars_per_mille),
        (15_000, 200)
    );
    assert_eq!(
        (changed.state_transfer, changed.background),
        (false, Some(false))
    );
    assert_eq!((changed.slow_per_mille, changed.elections), (100, true));
    assert_eq!(
        (changed.breaks_per_hour, changed.half_open_per_hour),
        (60.0, 6.0)
    );
    assert_eq!(
        (changed.outages_per_hour, changed.churn_per_hour),
        (3.0, 2.0)
    );
    let partition = changed.partition.unwrap();
    assert_eq!(
        (partition.begin.as_secs(), partition.length.as_secs()),
        (5, 60)
    );
    assert_eq!(partition.per_mille, 250);
}

#[test]
fn snapshots_and_joins_by_them() {
    let command = |words: &str| match parse_words(words).unwrap().command {
        Command::Snapshot(command) => command,
        other => panic!("{other:?}"),
    };
    let SnapshotCommand::Submitrequest { to, block_number } =
        command("peer snapshot submitrequest -c ch --peerAddress h:1 --tlsRootCertFile ca.pem")
    else {
        panic!()
    };
    assert_eq!((&*to.channel_id, &*to.peer_address), ("ch", "h:1"));
    assert_eq!(to.tls_root_cert_file, Some(PathBuf::from("ca.pem")));
    assert_eq!(block_number, 0);
    let SnapshotCommand::Cancelrequest { block_number, .. } =
        command("peer snapshot cancelrequest -c ch -b 12")
    else {
        panic!()
    };
    assert_eq!(block_number, 12);
    assert!(matches!(
        command("peer snapshot listpending -c ch"),
        SnapshotCommand::Listpending { .. }
    ));
    let join = channel("joinbysnapshot --snapshotpath /a/b").command;
    assert!(matches!(
        join,
        ChannelCommand::Joinbysnapshot { snapshot_path } if snapshot_path == "/a/b"
    ));
    let status = channel("joinbysnapshotstatus").command;
    assert!(matches!(status, ChannelCommand::Joinbysnapshotstatus));
}

#[rstest]
#[case("peer snapshot listpending -b 1")]
#[case("peer bogus")]
#[case("peer channel bogus")]
#[case("peer channel list extra")]
#[case("peer channel list --bogus")]
#[case("peer channel fetch a b c")]
#[case("peer channel list --connTimeout 5")]
#[case("peer channel list --tls=perhaps")]
#[case("peer version extra")]
#[case("selvedge simulate --loss 1.5")]
#[case("selvedge simulate --partition 5s,0.3")]
fn wrong_command_lines(#[case] words: &str) {
    let error = parse_words(words).unwrap_err();
    assert_eq!(error.exit_code(), 2, "an error, not help: {error}");
    assert!(error.render().to_string().starts_with("error: "));
}

#[rstest]
#[case("peer --help", "Usage: peer <COMMAND>")]
#[case("peer channel", "Usage: peer channel [OPTIONS] <COMMAND>")]
#[case(
    "peer channel fetch -h",
    "Usage: peer channel fetch [OPTIONS] [TARGET] [OUTPUT]"
)]
fn help_names_the_program_as_it_was_called(#[case] words: &str, #[case] usage: &str) {
    let text = parse_words(words).unwrap_err().render().to_string();
    assert!(text.contains(usage), "{text}");
}

#[rstest]
#[case(Some("/usr/local/bin/peer"), "peer")]
#[case(Some("target/release/selvedge"), "selvedge")]
#[case(None, "selvedge")]
fn the_name_of_the_program(#[case] first: Option<&str>, #[case] name: &str) {
    assert_eq!(program_name(first.map(OsString::from).as_ref()), name);
}

#[test]
fn version_has_the_lines_that_scripts_look_for() {
    let text = version::text("peer");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("peer:"));
    assert_eq!(
        lines.next(),
        Some(concat!(" Version: v", env!("CARGO_PKG_VERSION")))
    );
    assert!(lines.next().unwrap().starts_with(" Commit SHA: "));
    assert!(lines.next().unwrap().starts_with(" OS/Arch: "));
}
