//! Dials that wait for their turn.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_gossip::event::DialPurpose;
use selvedge_gossip::types::Endpoint;

/// Dials at a time.
const RUNNING: usize = 64;

type Dial = (Endpoint, DialPurpose);

/// Dials that run and those that wait, each once. So no more wait than there are members, and bootstrap and
/// anchor endpoints; and each dead peer has its turn, however many there are.
#[derive(Clone, Default)]
pub(super) struct Dials(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bootstrap: VecDeque<Dial>,
    dead: VecDeque<Dial>,
    /// Whose turn it is.
    dead_next: bool,
    /// Those that wait, and those that run.
    known: BTreeSet<Dial>,
    workers: usize,
}

impl Dials {
    /// Adds a dial. Bootstrap and anchor peers take turns with dead ones, of which there may be many more. `true`:
    /// one more worker is to be started, which calls [`Self::next`] until nothing is left.
    pub fn add(&self, endpoint: Endpoint, purpose: DialPurpose) -> bool {
        let mut state = self.0.lock();
        let dial = (endpoint, purpose);
        if !state.known.insert(dial.clone()) {
            return false;
        }
        match dial.1 {
            DialPurpose::Identify => state.bootstrap.push_back(dial),
            DialPurpose::Ping(_) => state.dead.push_back(dial),
        }
        let start = state.workers < RUNNING;
        state.workers += usize::from(start);
        start
    }

    /// The next dial for a worker. `None`: there is none, and the worker ends.
    pub fn next(&self) -> Option<Dial> {
        let state = &mut *self.0.lock();
        let queues = match state.dead_next {
            true => [&mut state.dead, &mut state.bootstrap],
            false => [&mut state.bootstrap, &mut state.dead],
        };
        state.dead_next = !state.dead_next;
        let next = queues.into_iter().find_map(VecDeque::pop_front);
        if next.is_none() {
            state.workers -= 1;
        }
        next
    }

    /// A dial has ended: it may be added again.
    pub fn done(&self, dial: &Dial) {
        self.0.lock().known.remove(dial);
    }
}

#[cfg(test)]
mod tests {
    use selvedge_gossip::types::PkiId;

    use super::*;

    fn ping(number: u16) -> Dial {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        (
            Endpoint::from(format!("peer{number}:7051").as_str()),
            DialPurpose::Ping(PkiId(id)),
        )
    }

    #[test]
    fn each_dead_peer_has_its_turn_however_often_all_are_named() {
        let dials = Dials::default();
        let mut workers = 0;
        let mut dialed = BTreeSet::new();
        for _round in 0..10 {
            for number in 0..1000 {
                let (endpoint, purpose) = ping(number);
                workers += usize::from(dials.add(endpoint, purpose));
            }
            for _dial in 0..100 {
                let dial = dials.next().unwrap();
                dials.done(&dial);
                dialed.insert(dial);
            }
        }
        assert_eq!(workers, RUNNING);
        assert_eq!(dialed.len(), 1000);
    }

    #[test]
    fn bootstrap_peers_do_not_wait_for_the_dead_and_workers_end() {
        let dials = Dials::default();
        let (endpoint, purpose) = ping(1);
        assert!(dials.add(endpoint.clone(), purpose));
        let bootstrap = Endpoint::from("bootstrap:7051");
        assert!(dials.add(bootstrap.clone(), DialPurpose::Identify));
        assert!(
            !dials.add(bootstrap.clone(), DialPurpose::Identify),
            "it waits already"
        );
        let first = dials.next().unwrap();
        assert_eq!(first, (bootstrap.clone(), DialPurpose::Identify));
        assert!(
            !dials.add(bootstrap.clone(), DialPurpose::Identify),
            "it runs already"
        );
        dials.done(&first);
        assert_eq!(dials.next(), Some(ping(1)));
        assert_eq!((dials.next(), dials.next()), (None, None));
        assert!(dials.add(bootstrap, DialPurpose::Identify));
        assert_eq!(dials.0.lock().workers, 1);
    }
}
