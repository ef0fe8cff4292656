//! How the core comes to an end of what it does, and to its height, when nobody lies any more.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_gossip::event::{ChannelOrg, ChannelSetup, Event};
use selvedge_gossip::types::OrgId;

use super::peers::{ORGS, Peers};
use super::script::Script;
use super::{LIMITS, World, speech};

/// How long one honest peer may take to bring what is missing, whatever happened before.
const RECOVERY: Duration = Duration::from_secs(120);

impl World {
    /// Time passes, and nothing else happens.
    pub(super) fn end(&mut self) {
        let end = self.now + Duration::from_secs(60);
        while !self.awaited.is_empty() && self.deadline() <= end {
            self.sleep();
        }
        assert!(self.awaited.is_empty(), "{:?}", self.awaited);
    }

    /// An honest peer comes that has more blocks of every channel.
    pub(super) fn recover(&mut self) {
        if self.limits.members == LIMITS.members {
            // There may be no room for it.
            return;
        }
        let helper = Peers::get().helper();
        let channels: Vec<_> = self.ledgers.keys().cloned().collect();
        self.answer_all();
        let mut heights = BTreeMap::new();
        for channel in channels {
            let ledger = self.ledgers.get_mut(&channel).expect("a ledger");
            ledger.sequence += 1;
            heights.insert(channel.clone(), ledger.next + 5);
            let org = |org: &str| ChannelOrg {
                org: OrgId::from(org),
                anchor_peers: Vec::new(),
            };
            let setup = ChannelSetup {
                channel,
                sequence: ledger.sequence,
                orgs: ORGS.map(org).into(),
                height: ledger.height,
                block_gossip: true,
            };
            self.handle(Event::ChannelJoined(setup));
        }
        self.handle(Event::Connected {
            identity: helper.clone(),
            endpoint: None,
        });
        self.questions.clear();
        let end = self.now + RECOVERY;
        let mut time = 0;
        while heights
            .iter()
            .any(|(channel, height)| self.ledgers[channel].next < *height)
        {
            assert!(self.now < end, "{heights:?} are never reached");
            time += 1;
            for (channel, height) in &heights {
                for said in speech::honest(channel, *height, time) {
                    self.receive(helper.pki_id(), said.frame().clone());
                }
            }
            let until = self.now + Duration::from_secs(1);
            while self.now < until {
                self.answer_all();
                while let Some((to, question)) = self.questions.pop_front() {
                    let channel = std::str::from_utf8(&question.channel).expect("a name of ours");
                    let height = heights.get(channel).copied().unwrap_or_default();
                    if to == helper.pki_id()
                        && let Some(answer) = speech::honest_answer(&question, height)
                    {
                        self.receive(to, answer.frame().clone());
                    }
                }
                self.answer_all();
                self.now = self.deadline().clamp(self.now, until);
                self.handle(Event::Wakeup);
            }
        }
    }

    /// Tells the core all that it has asked its own node for.
    fn answer_all(&mut self) {
        let mut plainly = Script::new(&[]);
        while let Some(answer) = self.waiting.pop_front() {
            self.answer(answer, &mut plainly);
        }
    }
}
