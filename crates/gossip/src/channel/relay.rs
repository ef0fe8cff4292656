//! StateInfo of channels that this peer is not in.
//!
//! Peers of our organisation may be in channels that we are not in. Their StateInfo is passed on within
//! the organisation without our knowing the channel, if it came from a peer of the organisation
//! (Fabric: `Node.handleMessage`). As in Fabric the newest message of each author is remembered,
//! whatever its channel, for a hundred publication intervals, so that each is passed on once.

use std::time::Instant;

use crate::config::Config;
use crate::context::Context;
use crate::counters::DropReason;
use crate::emitter::{Emission, Route};
use crate::message::{StateInfo, Verified};
use crate::message_store::{MessageStore, Outcome};
use crate::types::PkiId;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Relay {
    seen: MessageStore<PkiId, ()>,
}

impl Relay {
    pub(super) fn new(config: &Config) -> Self {
        let time_to_live = config.publish_state_info_interval.saturating_mul(100);
        Self {
            seen: MessageStore::expiring(config.limits.relayed_state_infos, time_to_live),
        }
    }

    /// A StateInfo message came whose MAC is that of no channel of ours.
    pub(super) fn on_state_info(
        &mut self,
        from: PkiId,
        info: &Verified<StateInfo>,
        ctx: &mut Context<'_>,
    ) {
        if info.pki_id == ctx.me.pki_id() {
            return ctx.dropped(DropReason::OwnMessage);
        }
        if !ctx.in_my_org(&from) {
            return ctx.dropped(DropReason::UnknownChannel);
        }
        match self.seen.add(info.pki_id, info.time, (), ctx.now) {
            Outcome::Added => ctx.emit(Emission {
                route: Route::StateInfo {
                    channel: None,
                    author: info.pki_id,
                },
                envelope: info.envelope().clone(),
                received_from: Some(from),
            }),
            Outcome::Stale => ctx.dropped(DropReason::Duplicate),
            Outcome::Full => ctx.dropped(DropReason::RelayFull),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn wake(&mut self, now: Instant) {
        self.seen.sweep(now);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.seen.next_deadline()
    }
}
