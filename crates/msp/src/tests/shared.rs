//! What channels have in common is there once.

use std::sync::{Arc, Weak};

use super::support::{Authority, Definition};
use crate::msp::{Inner, Msp, MspVersion};
use crate::{MspManager, shared};

fn same(one: &Msp, other: &Msp) -> bool {
    Arc::ptr_eq(&one.0, &other.0)
}

#[test]
fn msps_with_one_definition_and_the_same_rules_are_one() {
    let definition = Definition::new(&[&Authority::new("ca")]);
    let other = Definition::new(&[&Authority::new("ca")]);
    let msp = definition.msp();
    assert!(same(&msp, &definition.msp()));
    assert!(!same(&msp, &other.msp()));
    let older = definition.set_up(MspVersion::V1_4_3).unwrap();
    assert!(!same(&msp, &older));
    assert_eq!(older.version(), MspVersion::V1_4_3);
}

#[test]
fn an_identity_is_read_once_for_all_channels_that_have_its_msp() {
    let authority = Authority::new("ca");
    let definition = Definition::new(&[&authority]);
    let peer = authority.peer().serialized();
    let read = |manager: &MspManager| manager.deserialize(&peer).unwrap();
    let managers = [definition.manager(), definition.manager()];
    let [first, second] = managers.each_ref().map(read);
    assert!(first.shares_with(&second));
    let revoking = definition.revocation_list(&authority.revoke(&[77]));
    assert!(!first.shares_with(&read(&revoking.manager())));
}

#[test]
fn what_nobody_uses_is_gone() {
    let authority = Authority::new("ca");
    let msp = Definition::new(&[&authority]).msp();
    let peer = authority.peer().serialized();
    let manager = MspManager::new([msp.clone()]).unwrap();
    manager.deserialize(&peer).unwrap();
    assert!(msp.0.identities.get(&peer).is_some());
    drop(manager);
    assert!(msp.0.identities.get(&peer).is_none());
    let weak = Arc::downgrade(&msp.0);
    drop(msp);
    assert!(weak.upgrade().is_none());
    // The next MSP that is set up takes its entry away.
    let key = |it: &Weak<Inner>| Weak::ptr_eq(it, &weak);
    let _next = Definition::new(&[&Authority::new("ca")]).msp();
    assert!(!shared::MSPS.lock().values().any(key));
}
