//! Config updates on the channel of a whole network, with its key material.

use std::time::Duration;

use selvedge_channel::ChannelConfig;
use selvedge_channel::config_update::{UpdateError, check, compute, propose};
use selvedge_protos::Message;
use selvedge_protos::common::{
    Config, ConfigEnvelope, ConfigGroup, ConfigUpdate, ConfigUpdateEnvelope, ConfigValue,
};
use selvedge_protos::envelope::OpenedEnvelope;

use crate::testing::{CHANNEL, TestNetwork, set_anchors, set_batch_count, signed, signed_update};

struct Fixture {
    network: TestNetwork,
    config: ChannelConfig,
}

impl Fixture {
    fn new() -> Self {
        let network = TestNetwork::new(10, Duration::from_secs(2));
        let config = network.config();
        Self { network, config }
    }

    /// Proposes an update by the administrators of Org1 and Org2.
    fn propose(&self, change: impl FnOnce(&mut Config)) -> Result<ConfigEnvelope, UpdateError> {
        let admins = [self.network.user(0, "Admin"), self.network.user(1, "Admin")];
        let [org1, org2] = &admins;
        let update = signed_update(self.config.config(), &[org1, org2], change);
        propose(&self.config, &update)
    }

    /// Proposes a config update that is not computed but changed by hand.
    fn propose_raw(
        &self,
        edit: impl FnOnce(&mut ConfigUpdate),
    ) -> Result<ConfigEnvelope, UpdateError> {
        let mut updated = self.config.config().clone();
        set_anchors(&mut updated, "Org1", &[9051]);
        let mut update = compute(CHANNEL, self.config.config(), &updated).unwrap();
        edit(&mut update);
        let admin = self.network.user(0, "Admin");
        propose(
            &self.config,
            &signed(update.encode_to_vec().into(), &[&admin]),
        )
    }
}

fn org1_write(update: &mut ConfigUpdate) -> &mut ConfigGroup {
    let root = update.write_set.as_mut().unwrap();
    let application = root.groups.get_mut("Application").unwrap();
    application.groups.get_mut("Org1").unwrap()
}

#[test]
fn an_allowed_change_is_the_next_configuration() {
    let fixture = Fixture::new();
    let admin = fixture.network.user(0, "Admin");
    let update = signed_update(fixture.config.config(), &[&admin], |config| {
        set_anchors(config, "Org1", &[7051, 9051]);
    });
    let proposed = propose(&fixture.config, &update).unwrap();
    check(&fixture.config, &proposed).unwrap();

    let mut expected = fixture.config.config().clone();
    expected.sequence = 1;
    set_anchors(&mut expected, "Org1", &[7051, 9051]);
    let root = expected.channel_group.as_mut().unwrap();
    let organization = root
        .groups
        .get_mut("Application")
        .unwrap()
        .groups
        .get_mut("Org1")
        .unwrap();
    organization.values.get_mut("AnchorPeers").unwrap().version = 1;
    assert_eq!(proposed.config.as_ref(), Some(&expected));

    let next = ChannelConfig::from_config(CHANNEL, expected).unwrap();
    let anchors = &next.application_org("Org1MSP").unwrap().anchor_peers;
    assert_eq!(anchors.len(), 2);

    // What was allowed once is stale afterwards.
    let error = propose(&next, &update).unwrap_err();
    assert!(
        matches!(
            error,
            UpdateError::ReadVersion { .. } | UpdateError::WriteVersion { .. }
        ),
        "{error}"
    );
}

#[test]
fn the_mod_policy_of_each_element_decides() {
    let fixture = Fixture::new();
    let [org1, org2] = [0, 1].map(|organization| fixture.network.user(organization, "Admin"));
    let user = fixture.network.user(0, "User1");
    let config = fixture.config.config();
    let change_org1 = |config: &mut Config| set_anchors(config, "Org1", &[9051]);
    for wrong in [&org2, &user] {
        let update = signed_update(config, &[wrong], change_org1);
        let error = propose(&fixture.config, &update).unwrap_err();
        let UpdateError::NotAuthorized {
            element, policy, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(policy, "/Channel/Application/Org1/Admins");
        assert_eq!(
            element.to_string(),
            "value /Channel/Application/Org1/AnchorPeers"
        );
    }

    let change_orderer = |config: &mut Config| set_batch_count(config, 99);
    let update = signed_update(config, &[&org1, &org2], change_orderer);
    let error = propose(&fixture.config, &update).unwrap_err();
    assert!(
        matches!(&error, UpdateError::NotAuthorized { policy, .. } if policy == "/Channel/Orderer/Admins"),
        "{error}"
    );
    let ordering = fixture.network.ordering_admin();
    let update = signed_update(config, &[&ordering], change_orderer);
    propose(&fixture.config, &update).unwrap();
}

#[test]
fn removing_an_organisation_needs_a_majority_of_administrators() {
    let fixture = Fixture::new();
    let remove = |config: &mut Config| {
        let root = config.channel_group.as_mut().unwrap();
        root.groups
            .get_mut("Application")
            .unwrap()
            .groups
            .remove("Org2");
    };
    let admin = fixture.network.user(0, "Admin");
    let update = signed_update(fixture.config.config(), &[&admin], remove);
    let error = propose(&fixture.config, &update).unwrap_err();
    assert!(
        matches!(&error, UpdateError::NotAuthorized { policy, .. } if policy == "/Channel/Application/Admins"),
        "{error}"
    );
    // One administrator twice is still one.
    let update = signed_update(fixture.config.config(), &[&admin, &admin], remove);
    assert!(propose(&fixture.config, &update).is_err());

    let proposed = fixture.propose(remove).unwrap();
    let root = proposed.config.unwrap().channel_group.unwrap();
    let application = &root.groups["Application"];
    assert_eq!(application.groups.keys().collect::<Vec<_>>(), ["Org1"]);
    assert_eq!(application.version, 1);
    assert_eq!(application.groups["Org1"].version, 0);
    assert_eq!(root.version, 0);
}

#[test]
fn a_signature_of_something_else_does_not_count() {
    let fixture = Fixture::new();
    let admin = fixture.network.user(0, "Admin");
    let update = signed_update(fixture.config.config(), &[&admin], |config| {
        set_anchors(config, "Org1", &[9051]);
    });
    let mut opened = OpenedEnvelope::open(update).unwrap();
    let mut envelope = ConfigUpdateEnvelope::decode(opened.data.clone()).unwrap();
    let mut other = ConfigUpdate::decode(envelope.config_update.clone()).unwrap();
    other.isolated_data.insert("more".to_owned(), "data".into());
    envelope.config_update = other.encode_to_vec().into();
    opened.data = envelope.encode_to_vec().into();
    let envelope = crate::messages::sign(
        &admin,
        &opened.channel_header,
        &opened.signature_header,
        opened.data,
    );
    let error = propose(&fixture.config, &envelope.unwrap()).unwrap_err();
    assert!(
        matches!(error, UpdateError::NotAuthorized { .. }),
        "{error}"
    );
}

#[test]
fn malformed_updates_are_refused_for_the_right_reason() {
    let fixture = Fixture::new();
    type Edit = fn(&mut ConfigUpdate);
    let cases: [(&str, Edit); 9] = [
        ("for channel \"other\"", |update| {
            update.channel_id = "other".to_owned()
        }),
        ("which the configuration does not", |update| {
            let read = update.read_set.as_mut().unwrap();
            read.values
                .insert("Nothing".to_owned(), ConfigValue::default());
        }),
        ("for version 5 of group /Channel", |update| {
            update.read_set.as_mut().unwrap().version = 5;
        }),
        ("changes nothing", |update| {
            update.write_set = update.read_set.clone()
        }),
        ("to version 7, expected 1", |update| {
            org1_write(update)
                .values
                .get_mut("AnchorPeers")
                .unwrap()
                .version = 7;
        }),
        ("to version 3, expected 0", |update| {
            let value = ConfigValue {
                version: 3,
                mod_policy: "Admins".to_owned(),
                ..ConfigValue::default()
            };
            org1_write(update).values.insert("New".to_owned(), value);
        }),
        ("mod policy of value", |update| {
            org1_write(update)
                .values
                .get_mut("AnchorPeers")
                .unwrap()
                .mod_policy
                .clear();
        }),
        ("cannot name a config element", |update| {
            let value = ConfigValue::default();
            org1_write(update).values.insert("a/b".to_owned(), value);
        }),
        ("cannot name a config element", |update| {
            let value = ConfigValue::default();
            org1_write(update).values.insert("x".repeat(250), value);
        }),
    ];
    for (expected, edit) in cases {
        let error = fixture.propose_raw(edit).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_new_group_needs_a_mod_policy() {
    let fixture = Fixture::new();
    let error = fixture
        .propose_raw(|update| {
            let group = org1_write(update);
            group.version = 1;
            group.mod_policy = "Admins".to_owned();
            group
                .groups
                .insert("New".to_owned(), ConfigGroup::default());
        })
        .unwrap_err();
    assert!(matches!(error, UpdateError::ModPolicy { .. }), "{error}");
}

#[test]
fn a_result_that_someone_changed_is_refused() {
    let fixture = Fixture::new();
    let proposed = fixture
        .propose(|config| set_anchors(config, "Org1", &[9051]))
        .unwrap();
    let mut skipped = proposed.clone();
    skipped.config.as_mut().unwrap().sequence = 2;
    let error = check(&fixture.config, &skipped).unwrap_err();
    assert!(
        matches!(
            error,
            UpdateError::Sequence {
                expected: 1,
                found: 2
            }
        ),
        "{error}"
    );
    let mut changed = proposed.clone();
    set_batch_count(changed.config.as_mut().unwrap(), 1);
    let error = check(&fixture.config, &changed).unwrap_err();
    assert!(matches!(error, UpdateError::ResultDiffers), "{error}");
    let mut bare = proposed;
    bare.last_update = None;
    let error = check(&fixture.config, &bare).unwrap_err();
    assert!(
        matches!(error, UpdateError::Missing("last update")),
        "{error}"
    );
}

#[test]
fn the_computed_update_is_empty_without_a_difference() {
    let fixture = Fixture::new();
    let config = fixture.config.config();
    let error = compute(CHANNEL, config, config).unwrap_err();
    assert!(matches!(error, UpdateError::Empty), "{error}");
}

#[test]
fn adding_and_removing_members_names_the_others_by_version() {
    let fixture = Fixture::new();
    let original = fixture.config.config();
    let mut updated = original.clone();
    let root = updated.channel_group.as_mut().unwrap();
    let application = root.groups.get_mut("Application").unwrap();
    let copy = application.groups["Org1"].clone();
    application.groups.insert("Org3".to_owned(), copy);
    let update = compute(CHANNEL, original, &updated).unwrap();
    let write = &update.write_set.unwrap().groups["Application"];
    assert_eq!(write.version, 1);
    assert_eq!(write.mod_policy, "Admins");
    let bare = ConfigGroup::default();
    assert_eq!(write.groups["Org1"], bare);
    assert_eq!(write.groups["Org2"], bare);
    assert!(!write.groups["Org3"].values["MSP"].value.is_empty());
    let read = &update.read_set.unwrap().groups["Application"];
    assert_eq!(read.groups.keys().collect::<Vec<_>>(), ["Org1", "Org2"]);
    assert_eq!(read.version, 0);
}
