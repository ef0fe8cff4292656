//! Who gets what is pushed, decided when a batch leaves (Fabric: `gossipBatch`).
//!
//! | what | whom | how many |
//! | --- | --- | --- |
//! | block | members of our organisation in the channel that are not known to have it | `propagatePeerNum`; announced to those that use the tree |
//! | leadership | members of our organisation in the channel | all |
//! | StateInfo of an author with an external endpoint | organisations of the channel | `propagatePeerNum` |
//! | StateInfo otherwise, or of an unknown channel | our organisation | `propagatePeerNum` |
//! | alive | see [`alive`](super::alive) | `propagatePeerNum` |
//!
//! Never back to the sender or to the author.
//!
//! Difference from Go: there the peers of a batch are drawn first and those that must not get a message are
//! struck off, so fewer are reached; here only those that may get it are drawn.

use std::time::Instant;

use super::Gossip;
use crate::counters::DropReason;
use crate::emitter::Route;
use crate::event::{Action, FrameKind, Payload};

impl<B: Payload> Gossip<B> {
    /// Sends what is due to be pushed.
    pub(super) fn push(&mut self, now: Instant, out: &mut dyn FnMut(Action<B>)) {
        let mut alive = Vec::new();
        for emission in self.emitter.take_due(&self.config, now) {
            let (kind, channel) = match &emission.route {
                Route::Alive { author, .. } => {
                    alive.push((*author, emission));
                    continue;
                }
                Route::Block(channel, _) => (FrameKind::Block, Some(channel)),
                Route::Leadership(channel) => (FrameKind::Leadership, Some(channel)),
                Route::StateInfo { channel, .. } => (FrameKind::StateInfo, channel.as_ref()),
            };
            let from = emission.received_from;
            let targets = self.with_channels(now, out, |channels, c| {
                channels.targets(&emission.route, from, c)
            });
            let Some(targets) = targets else {
                self.counters.dropped(DropReason::UnknownChannel);
                continue;
            };
            for to in targets {
                out(Action::Send {
                    to,
                    frame: emission.envelope.frame().clone(),
                    kind,
                    channel: channel.cloned(),
                });
            }
        }
        if !alive.is_empty() {
            self.push_alive(&alive, now, out);
        }
    }
}
