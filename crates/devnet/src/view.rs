//! What the terminal shows while a network runs.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::options::Output;
use crate::summary::{Arrivals, Delays, Summary};

/// Peers that are listed by name; of more, only the number is shown.
const MAX_LISTED: usize = 16;
const REDRAWS_A_SECOND: u8 = 5;
/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// The state of a network at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// Since the first transaction.
    pub elapsed: Duration,
    /// Blocks of the ordering node, the genesis block not counted.
    pub ordered: u64,
    /// Transactions that the ordering node has taken.
    pub transactions: u64,
    pub peers: Vec<PeerStatus>,
    pub arrivals: Arrivals,
    /// Of the latest blocks.
    pub delays: Delays,
    pub duplicates: u64,
    pub bytes_sent: u64,
}

/// The state of one peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerStatus {
    pub name: String,
    /// Blocks, the genesis block not counted.
    pub blocks: u64,
    /// Other peers that it knows to be alive.
    pub known: usize,
    /// Those that it knows to be in the channel.
    pub in_channel: usize,
}

/// Where the state is shown, and the result at the end.
pub(crate) struct View {
    output: Output,
    shown: Shown,
}

enum Shown {
    Live(ProgressBar),
    Lines { next: Duration },
}

impl View {
    /// Live where the stream is a terminal, lines elsewhere. The stream is standard output, or
    /// standard error if standard output is for JSON.
    pub(crate) fn new(output: Output) -> Self {
        let is_terminal = match output {
            Output::Text => io::stdout().is_terminal(),
            Output::Json => io::stderr().is_terminal(),
        };
        let shown = if is_terminal {
            let target = match output {
                Output::Text => ProgressDrawTarget::stdout_with_hz(REDRAWS_A_SECOND),
                Output::Json => ProgressDrawTarget::stderr_with_hz(REDRAWS_A_SECOND),
            };
            let bar = ProgressBar::with_draw_target(None, target);
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            Shown::Live(bar)
        } else {
            Shown::Lines {
                next: Duration::ZERO,
            }
        };
        Self { output, shown }
    }

    /// Says something that stays.
    pub(crate) fn say(&self, message: impl fmt::Display) {
        match &self.shown {
            Shown::Live(bar) => bar.suspend(|| self.line(&message)),
            Shown::Lines { .. } => self.line(&message),
        }
    }

    /// Shows the state; call often.
    pub(crate) fn update(&mut self, status: &Status) {
        match &mut self.shown {
            Shown::Live(bar) => bar.set_message(status.page()),
            Shown::Lines { next } => {
                if status.elapsed >= *next {
                    *next = status.elapsed + LINE_INTERVAL;
                    self.line(&status.line());
                }
            }
        }
    }

    /// Ends the view and prints the result.
    pub(crate) fn finish(self, summary: &Summary) -> io::Result<()> {
        if let Shown::Live(bar) = &self.shown {
            bar.finish_and_clear();
        }
        let mut out = io::stdout().lock();
        match self.output {
            Output::Text => writeln!(out, "{summary}"),
            Output::Json => {
                serde_json::to_writer(&mut out, summary)?;
                writeln!(out)
            }
        }
    }

    /// A view must not end a network: what cannot be printed is left out.
    fn line(&self, message: &impl fmt::Display) {
        let _ = match self.output {
            Output::Text => writeln!(io::stdout(), "{message}"),
            Output::Json => writeln!(io::stderr(), "{message}"),
        };
    }
}

impl Status {
    /// Blocks that every peer has.
    pub(crate) fn on_every_peer(&self) -> u64 {
        let blocks = self.peers.iter().map(|peer| peer.blocks);
        blocks.min().unwrap_or_default()
    }

    /// Blocks that some peer has.
    pub(crate) fn longest(&self) -> u64 {
        let blocks = self.peers.iter().map(|peer| peer.blocks);
        blocks.max().unwrap_or_default()
    }

    fn least_known(&self) -> usize {
        let known = self.peers.iter().map(|peer| peer.known);
        known.min().unwrap_or_default()
    }

    /// How many others the peer knows to be in the channel that knows the fewest.
    pub(crate) fn least_in_channel(&self) -> usize {
        let known = self.peers.iter().map(|peer| peer.in_channel);
        known.min().unwrap_or_default()
    }

    fn line(&self) -> String {
        let Arrivals {
            orderer,
            push,
            pull,
            state,
        } = self.arrivals;
        let last = self.delays.last_peer;
        format!(
            "{:>4}s  height {} ordered, {} everywhere; peers known {}; arrivals orderer {orderer} \
             push {push} pull {pull} state {state}; delay to last peer p50 {:.1} ms p99 {:.1} ms; \
             duplicates {}; sent {}",
            self.elapsed.as_secs(),
            self.ordered,
            self.on_every_peer(),
            self.least_known(),
            last.p50,
            last.p99,
            self.duplicates,
            HumanBytes(self.bytes_sent),
        )
    }

    fn page(&self) -> String {
        let Arrivals {
            orderer,
            push,
            pull,
            state,
        } = self.arrivals;
        let seconds = self.elapsed.as_secs();
        let mut lines = vec![
            format!(
                "time          {:02}:{:02}   transactions {}",
                seconds / 60,
                seconds % 60,
                self.transactions
            ),
            format!(
                "height        {} ordered, {} on every peer",
                self.ordered,
                self.on_every_peer()
            ),
            format!("arrivals      orderer {orderer}, push {push}, pull {pull}, state {state}"),
            format!("every peer    {}", self.delays.every_peer),
            format!("last peer     {}", self.delays.last_peer),
            format!(
                "duplicates    {}   sent {}",
                self.duplicates,
                HumanBytes(self.bytes_sent)
            ),
        ];
        let width = self.peers.iter().map(|peer| peer.name.len()).max();
        let width = width.unwrap_or_default();
        for peer in self.peers.iter().take(MAX_LISTED) {
            let PeerStatus {
                name,
                blocks,
                known,
                ..
            } = peer;
            lines.push(format!(
                "  {name:width$}   height {blocks:>6}   knows {known}"
            ));
        }
        if self.peers.len() > MAX_LISTED {
            let more = self.peers.len() - MAX_LISTED;
            lines.push(format!("  and {more} more"));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_peers_up_to_a_limit() {
        let peer = |number: u64| PeerStatus {
            name: format!("peer{number}"),
            blocks: 10 + number,
            known: 3,
            in_channel: 3,
        };
        let status = Status {
            ordered: 12,
            peers: (0..20).map(peer).collect(),
            ..Status::default()
        };
        let page = status.page();
        assert!(page.contains("12 ordered, 10 on every peer"), "{page}");
        assert!(
            page.contains("peer15") && !page.contains("peer16"),
            "{page}"
        );
        assert!(page.ends_with("and 4 more"), "{page}");
        assert!(status.line().contains("peers known 3"));
    }
}
