//! `simulate`.

use std::fs::File;
use std::io::Write as _;

use anyhow::{Context as _, anyhow};
use selvedge_simulator::{Options, Rules, curves, options, run};

use crate::args::{self, Output, SimulateArgs, parts};
use crate::failure::{Failure, print_out};

impl From<&SimulateArgs> for Options {
    fn from(arguments: &SimulateArgs) -> Self {
        Self {
            seed: arguments.seed,
            peers: arguments.peers,
            orgs: arguments.orgs,
            channels: arguments.channels,
            blocks: arguments.blocks,
            rate: arguments.rate,
            block_size: arguments.block_size,
            place: match arguments.place {
                args::Place::Machine => options::Place::Machine,
                args::Place::Region => options::Place::Region,
                args::Place::Planet => options::Place::Planet,
            },
            loss_per_million: parts(arguments.loss, 1_000_000),
            rules: match arguments.rules {
                args::Rules::Selvedge => Rules::Selvedge,
                args::Rules::Fabric => Rules::Fabric,
            },
            state_transfer: !arguments.no_state_transfer,
            cold_start: arguments.cold_start,
            background: arguments.background,
            partition: arguments.partition,
            restarts_per_hour: arguments.restarts,
            churn_per_hour: arguments.churn,
            breaks_per_hour: arguments.breaks,
            half_open_per_hour: arguments.half_open,
            narrow_per_hour: arguments.narrow,
            outages_per_hour: arguments.outages,
            slow_per_mille: parts(arguments.slow, 1000),
            elections: arguments.elections,
            liars_per_mille: parts(arguments.liars, 1000),
            send_buffer: arguments.send_buffer,
            patience: arguments.patience,
        }
    }
}

/// Runs a simulation and prints its report. It fails if something happened that must never happen.
pub fn simulate(arguments: &SimulateArgs) -> Result<(), Failure> {
    let options = Options::from(arguments);
    options.check()?;
    // Before the work, which may take long.
    let svg = arguments.svg.as_ref().map(|path| {
        let file = File::create(path);
        file.with_context(|| format!("cannot write {}", path.display()))
    });
    let svg = svg.transpose()?;
    let report = run(&options)?;
    match arguments.output {
        Output::Text => print_out(&report.to_string()),
        Output::Json => print_out(&format!("{}\n", serde_json::to_string(&report)?)),
    }
    if let Some(mut file) = svg {
        file.write_all(curves::svg(std::slice::from_ref(&report)).as_bytes())
            .context("cannot write the curves")?;
    }
    match report.violations.len() {
        0 => Ok(()),
        count => Err(anyhow!("{count} violations of what must always hold").into()),
    }
}
