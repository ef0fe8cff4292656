use bytes::Bytes;

use super::*;
use crate::crypto::{Crypto, IdentityFacts, Refusal};
use crate::testing::start;

/// Identities that end at a given time.
struct EndsAt(Option<u64>);

impl Crypto for EndsAt {
    fn validate(&self, _: &Bytes) -> Result<IdentityFacts, Refusal> {
        Ok(IdentityFacts {
            org: OrgId::from("Org1MSP"),
            expires_at: self.0,
        })
    }

    fn verify(&self, _: &Identity, _: &[u8], _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }
}

/// An identity without MSP id, whose certificate is one byte.
fn identity(number: u8, ends: Option<u64>) -> Identity {
    Identity::check(&Bytes::copy_from_slice(&[0x12, 1, number]), &EndsAt(ends)).unwrap()
}

fn nobody(_: &PkiId) -> bool {
    false
}

const HOUR: u64 = 3_600_000_000_000;

#[test]
fn an_identity_leaves_when_its_certificate_ends() {
    let now = start();
    let clock = Clock::new(now, HOUR);
    let mut store = IdentityStore::new(identity(0, Some(1)), 10, now);
    let (short, long) = (
        identity(1, Some(HOUR + 5_000_000)),
        identity(2, Some(9 * HOUR)),
    );
    assert_eq!(store.learn(&short, &clock, now), Learned::New);
    assert_eq!(store.learn(&long, &clock, now), Learned::New);
    assert_eq!(store.learn(&long, &clock, now), Learned::Known);
    assert_eq!(
        store.learn(&identity(3, Some(HOUR - 1)), &clock, now),
        Learned::Expired
    );

    let end = now + Duration::from_millis(6);
    assert_eq!(store.next_deadline(), end);
    assert!(
        store
            .sweep(end - Duration::from_millis(1), nobody)
            .is_empty()
    );
    assert_eq!(store.sweep(end, nobody), [short.pki_id()]);
    assert!(store.get(&short.pki_id()).is_none());
    assert_eq!(store.org(&long.pki_id()), Some(&OrgId::from("Org1MSP")));
}

#[test]
fn an_identity_that_is_not_used_leaves_and_our_own_stays() {
    let now = start();
    let clock = Clock::new(now, 0);
    let own = identity(0, None);
    let mut store = IdentityStore::new(own.clone(), 10, now);
    let (used, unused) = (identity(1, None), identity(2, None));
    store.learn(&used, &clock, now);
    store.learn(&unused, &clock, now);
    store.touch(&used.pki_id(), now + Duration::from_secs(3000));
    assert_eq!(
        store.sweep(now + Duration::from_secs(3700), nobody),
        [unused.pki_id()]
    );
    assert_eq!(
        store.sweep(now + Duration::from_secs(9000), nobody),
        [used.pki_id()]
    );
    assert!(store.get(&own.pki_id()).is_some());
}

#[test]
fn a_members_identity_leaves_only_when_it_ends() {
    let now = start();
    let clock = Clock::new(now, 0);
    let mut store = IdentityStore::new(identity(0, None), 10, now);
    let (dead, ending) = (identity(1, None), identity(2, Some(2 * HOUR)));
    store.learn(&dead, &clock, now);
    store.learn(&ending, &clock, now);
    let soon = now + Duration::from_secs(2 * 3600);
    assert!(store.sweep(soon, |_| true).is_empty());
    let later = soon + Duration::from_secs(400);
    assert_eq!(store.sweep(later, |_| true), [ending.pki_id()]);
    let later = later + Duration::from_secs(400);
    assert_eq!(store.sweep(later, nobody), [dead.pki_id()]);
}

#[test]
fn a_revoked_identity_does_not_come_back_with_a_message_under_way() {
    let now = start();
    let clock = Clock::new(now, 0);
    let own = identity(0, None);
    let mut store = IdentityStore::new(own.clone(), 10, now);
    let peer = identity(1, None);
    store.learn(&peer, &clock, now);
    assert!(store.revoke(&peer.pki_id(), now));
    assert!(!store.revoke(&peer.pki_id(), now));
    assert!(!store.revoke(&own.pki_id(), now));
    assert_eq!(store.learn(&peer, &clock, now), Learned::Revoked);
    assert_eq!(store.learn(&peer, &clock, now + UNDER_WAY), Learned::New);
}

#[test]
fn there_is_room_for_so_many() {
    let now = start();
    let clock = Clock::new(now, 0);
    let mut store = IdentityStore::new(identity(0, None), 2, now);
    assert_eq!(store.learn(&identity(1, None), &clock, now), Learned::New);
    assert_eq!(store.learn(&identity(2, None), &clock, now), Learned::Full);
}
