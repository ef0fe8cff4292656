//! The order in which ordering nodes are asked.

use std::collections::HashMap;
use std::sync::Arc;

use rand::seq::SliceRandom;

use crate::addresses::{AddressOverride, Orderer, OrdererAddresses};

/// The ordering nodes of a channel, shuffled, with the one whose turn it is.
pub(crate) struct Sources {
    overrides: HashMap<String, AddressOverride>,
    known: OrdererAddresses,
    orderers: Vec<Arc<Orderer>>,
    turn: usize,
}

impl Sources {
    pub(crate) fn new(
        addresses: OrdererAddresses,
        overrides: HashMap<String, AddressOverride>,
    ) -> Self {
        let orderers = addresses
            .resolve(&overrides)
            .into_iter()
            .map(Arc::new)
            .collect();
        let mut sources = Self {
            overrides,
            known: addresses,
            orderers,
            turn: 0,
        };
        sources.shuffle();
        sources
    }

    /// Takes other addresses. Returns whether they differ; then the connection should be made anew,
    /// even if its node is still there, so that peers spread over the nodes that there are.
    pub(crate) fn update(&mut self, addresses: OrdererAddresses) -> bool {
        if addresses == self.known {
            return false;
        }
        self.orderers = addresses
            .resolve(&self.overrides)
            .into_iter()
            .map(Arc::new)
            .collect();
        self.known = addresses;
        self.shuffle();
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.orderers.len()
    }

    /// The node whose turn it is.
    pub(crate) fn current(&self) -> Option<Arc<Orderer>> {
        self.orderers.get(self.turn).cloned()
    }

    /// All nodes but the one whose turn it is.
    pub(crate) fn others(&self) -> Vec<Arc<Orderer>> {
        let others = self
            .orderers
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != self.turn);
        others.map(|(_, orderer)| orderer.clone()).collect()
    }

    /// The current node has failed: the next one's turn. After a round the order changes, but the
    /// one that has failed last is not asked again at once.
    pub(crate) fn advance(&mut self) {
        self.turn += 1;
        if self.turn < self.orderers.len() {
            return;
        }
        let failed = self.orderers.last().cloned();
        self.shuffle();
        if self.orderers.len() > 1 && self.orderers.first() == failed.as_ref() {
            self.orderers.rotate_left(1);
        }
    }

    fn shuffle(&mut self) {
        self.orderers.shuffle(&mut rand::rng());
        self.turn = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn addresses(names: &[&str]) -> OrdererAddresses {
        let global = names.iter().map(|&n| n.to_owned()).collect();
        OrdererAddresses {
            global,
            ..OrdererAddresses::default()
        }
    }

    fn sources(names: &[&str]) -> Sources {
        Sources::new(addresses(names), HashMap::new())
    }

    #[test]
    fn each_round_asks_all_and_no_node_twice_in_a_row() {
        let mut sources = sources(&["a:1", "b:1", "c:1"]);
        let mut last = None;
        for _ in 0..50 {
            let mut round = BTreeSet::new();
            for _ in 0..3 {
                let orderer = sources.current().unwrap().address.clone();
                assert_ne!(last.as_ref(), Some(&orderer));
                round.insert(orderer.clone());
                last = Some(orderer);
                assert_eq!(sources.others().len(), 2);
                sources.advance();
            }
            assert_eq!(round.len(), 3);
        }
    }

    #[test]
    fn one_node_is_asked_again_and_none_is_no_node() {
        let mut one = sources(&["a:1"]);
        one.advance();
        assert_eq!(one.current().unwrap().address, "a:1");
        let mut none = sources(&[]);
        none.advance();
        assert!(none.current().is_none() && none.others().is_empty());
    }

    #[test]
    fn only_a_change_is_an_update() {
        let mut sources = sources(&["a:1"]);
        assert!(!sources.update(addresses(&["a:1"])));
        assert!(sources.update(addresses(&["b:1"])));
        assert_eq!(sources.current().unwrap().address, "b:1");
    }
}
