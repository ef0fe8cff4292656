//! `peer channel` of Fabric and `selvedge channel`, each against both kinds of peer.

use std::fs;
use std::process::Command;

use selvedge_protos::common::Block;

use super::fabric::{Fabric, run, try_run};
use super::network::{At, CHANNEL, Kind, Lead, Network, Plan};
use super::observe::comparable;

/// join, list, getinfo and fetch.
pub fn channel(fabric: &Fabric) {
    let mut network = Network::start(fabric, Plan::new(&[2]));
    let (go, ours) = (At(1, 0), At(1, 1));
    // Starting a peer joins it to the channel by Fabric's command line.
    network.start_peer(go, Kind::Fabric, Lead::Always);
    network.start_peer(ours, Kind::Selvedge, Lead::Always);
    network.order(5);
    network.await_all_blocks(&[go, ours]);

    type Cli = fn(&Network, At) -> Command;
    let programs: [Cli; 2] = [Network::peer_cli, Network::selvedge_cli];
    let answers = programs.map(|cli| [go, ours].map(|at| ask(&network, || cli(&network, at))));
    let [[expected, rest @ ..], others] = &answers;
    for answer in rest.iter().chain(others) {
        assert_eq!(answer, expected);
    }
    assert_eq!(expected.list, [CHANNEL]);
    assert_eq!(expected.info["height"], 7);
    let numbers = expected
        .blocks
        .iter()
        .map(|block| block.header.as_ref().unwrap().number);
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 3, 6, 0]);

    for cli in programs {
        for at in [go, ours] {
            let again = try_run(
                cli(&network, at)
                    .args(["channel", "join", "-b"])
                    .arg(network.genesis()),
            );
            let refusal = "ledger [interop] already exists with state [ACTIVE]";
            let message = again.expect_err("a channel cannot be joined twice");
            assert!(message.contains(refusal), "{at:?}: {message}");
            let unknown = try_run(cli(&network, at).args(["channel", "getinfo", "-c", "nowhere"]));
            assert!(unknown.is_err());
        }
    }
}

/// What a program prints about a channel.
#[derive(Debug, PartialEq)]
struct Answers {
    list: Vec<String>,
    info: serde_json::Value,
    blocks: Vec<Block>,
}

fn ask(network: &Network, cli: impl Fn() -> Command) -> Answers {
    let list = run(cli().args(["channel", "list"]));
    let channels = list.lines().map(str::trim).filter(|line| *line == CHANNEL);
    let info = run(cli().args(["channel", "getinfo", "-c", CHANNEL]));
    let info = info.split_once("Blockchain info: ").unwrap().1;
    let blocks = ["oldest", "3", "newest", "config"].map(|position| {
        let file = network.file("fetched.block");
        run(cli()
            .args(["channel", "fetch", position])
            .arg(&file)
            .args(["-c", CHANNEL]));
        comparable(&fs::read(file).unwrap())
    });
    Answers {
        list: channels.map(str::to_owned).collect(),
        info: serde_json::from_str(info).unwrap(),
        blocks: blocks.into(),
    }
}
