//! Reaching bootstrap and anchor peers (Fabric: `discovery.Connect` and `sendUntilAcked`).
//!
//! An endpoint is dialled to learn who listens there, then that peer is sent membership requests with a
//! nonce until a response brings it back. Both steps are repeated, at most `maxConnectionAttempts` times
//! each.
//!
//! Difference from Go: there each failure is followed by a pause of `reconnectInterval` (25 s), so peers
//! that are started together may find each other half a minute later. Here the pause begins with a second
//! and doubles up to that interval.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::config::{Config, Rules};
use crate::context::Context;
use crate::event::{Action, DialOutcome, DialPurpose, Notice};
use crate::types::{Endpoint, OrgId, Peer, PkiId};

/// How long a response to a membership request is waited for (Fabric: `sendUntilAcked`).
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A dial that is not reported within this time counts as failed. The transport always reports; this
/// keeps an attempt alive if it does not.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Endpoints that are being tried.
#[derive(Debug, Default)]
pub(super) struct Connects {
    attempts: BTreeMap<Endpoint, Connect>,
}

#[derive(Debug)]
struct Connect {
    org: OrgId,
    tries: u32,
    state: State,
    deadline: Instant,
}

#[derive(Debug)]
enum State {
    /// To be dialled at the deadline.
    Idle,
    /// Dialled.
    Dialing,
    /// To be asked at the deadline.
    Known { peer: Peer, org: OrgId, nonce: u64 },
    /// Asked.
    Asked { peer: Peer, org: OrgId, nonce: u64 },
}

/// Whom to ask, the organisation it belongs to, and the nonce.
pub(super) type Ready = (Peer, OrgId, u64);

impl Connects {
    /// Starts to try `endpoint`, if it is not being tried.
    pub(super) fn start(&mut self, endpoint: Endpoint, org: OrgId, now: Instant) {
        self.attempts.entry(endpoint).or_insert(Connect {
            org,
            tries: 0,
            state: State::Idle,
            deadline: now,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// Gives up all but these.
    pub(super) fn retain(&mut self, endpoints: &BTreeSet<Endpoint>) {
        self.attempts
            .retain(|endpoint, _| endpoints.contains(endpoint));
    }

    /// A response with `nonce` has come.
    pub(super) fn acknowledged(&mut self, nonce: u64) {
        self.attempts.retain(|_, connect| match connect.state {
            State::Known { nonce: own, .. } | State::Asked { nonce: own, .. } => own != nonce,
            _ => true,
        });
    }

    /// A peer is gone. Who answers now where it was to be asked is to be learned again, after a pause: somebody may
    /// answer by another identity each time.
    pub(super) fn forget(&mut self, peer: &PkiId, ctx: &Context<'_>) {
        for connect in self.attempts.values_mut() {
            let (State::Known { peer: known, .. } | State::Asked { peer: known, .. }) =
                &connect.state
            else {
                continue;
            };
            if known.pki_id == *peer {
                connect.state = State::Idle;
                connect.deadline = ctx.now + connect.pause(ctx.config);
            }
        }
    }

    /// A dial has ended. Returns whom to ask now.
    pub(super) fn identified<B>(
        &mut self,
        endpoint: &Endpoint,
        outcome: &DialOutcome,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) -> Option<Ready> {
        let connect = self.attempts.get_mut(endpoint)?;
        if !matches!(connect.state, State::Dialing) {
            return None;
        }
        let identity = match outcome {
            DialOutcome::Identified(identity) => identity,
            _ => {
                connect.failed("nobody answers there", endpoint, ctx, out);
                return None;
            }
        };
        if identity.pki_id() == ctx.me.pki_id() {
            self.attempts.remove(endpoint);
            return None;
        }
        // A peer that is said to be of our organisation must be; one that is said to be of another may turn
        // out to be ours.
        if connect.org == *ctx.me.org() && identity.org() != ctx.me.org() {
            let reason = format!("it is of {}, not of our organisation", identity.org());
            connect.failed(reason, endpoint, ctx, out);
            return None;
        }
        let peer = Peer {
            pki_id: identity.pki_id(),
            endpoint: endpoint.clone(),
        };
        let nonce = ctx.rng.random();
        connect.tries = 0;
        Some(connect.ask(peer, identity.org().clone(), nonce, ctx.now))
    }

    /// Does what is due. Returns whom to ask now.
    pub(super) fn wake<B>(
        &mut self,
        ctx: &mut Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) -> Vec<Ready> {
        let mut ready = Vec::new();
        for (endpoint, connect) in &mut self.attempts {
            if ctx.now < connect.deadline {
                continue;
            }
            match std::mem::replace(&mut connect.state, State::Idle) {
                State::Idle => {
                    connect.state = State::Dialing;
                    connect.deadline = ctx.now + DIAL_TIMEOUT;
                    out(Action::Dial {
                        endpoint: endpoint.clone(),
                        purpose: DialPurpose::Identify,
                    });
                }
                State::Dialing => connect.failed("the dial did not end", endpoint, ctx, out),
                State::Known { peer, org, nonce } => {
                    ready.push(connect.ask(peer, org, nonce, ctx.now));
                }
                State::Asked { peer, org, nonce } => {
                    connect.state = State::Known { peer, org, nonce };
                    connect.deadline = ctx.now + connect.pause(ctx.config);
                    connect.tries += 1;
                }
            }
        }
        let limit = ctx.config.max_connection_attempts;
        self.attempts.retain(|endpoint, connect| {
            let given_up = connect.tries >= limit;
            if given_up {
                out(Action::Notice(Notice::ConnectFailed {
                    endpoint: endpoint.clone(),
                    reason: format!("given up after {limit} attempts").into(),
                }));
            }
            !given_up
        });
        ready
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.attempts.values().map(|connect| connect.deadline).min()
    }
}

impl Connect {
    fn ask(&mut self, peer: Peer, org: OrgId, nonce: u64, now: Instant) -> Ready {
        self.deadline = now + RESPONSE_TIMEOUT;
        self.state = State::Asked {
            peer: peer.clone(),
            org: org.clone(),
            nonce,
        };
        (peer, org, nonce)
    }

    /// How long to wait after a failure.
    fn pause(&self, config: &Config) -> Duration {
        match config.rules {
            Rules::Selvedge => FIRST_PAUSE
                .saturating_mul(2u32.saturating_pow(self.tries))
                .min(config.reconnect_interval),
            Rules::Fabric => config.reconnect_interval,
        }
    }

    fn failed<B>(
        &mut self,
        reason: impl Into<Arc<str>>,
        endpoint: &Endpoint,
        ctx: &Context<'_>,
        out: &mut dyn FnMut(Action<B>),
    ) {
        self.state = State::Idle;
        self.deadline = ctx.now + self.pause(ctx.config);
        self.tries += 1;
        out(Action::Notice(Notice::ConnectFailed {
            endpoint: endpoint.clone(),
            reason: reason.into(),
        }));
    }
}
