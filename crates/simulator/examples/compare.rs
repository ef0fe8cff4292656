//! Both sets of rules over the same network: `cargo run --release -p selvedge-simulator --example compare --
//! [peers] [blocks] [seed]`.

#![allow(clippy::print_stdout, reason = "it prints its result")]

use selvedge_simulator::{Options, Rules, SimulationError, run};

fn main() -> Result<(), SimulationError> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut number = |default| match numbers.next() {
        Some(Ok(number)) => number,
        _ => default,
    };
    let peers = usize::try_from(number(100)).unwrap_or(100);
    let (blocks, seed) = (number(100), number(1));
    for rules in [Rules::Fabric, Rules::Selvedge] {
        let options = Options {
            peers,
            blocks,
            seed,
            rules,
            ..Options::default()
        };
        println!("{}", run(&options)?);
    }
    Ok(())
}
