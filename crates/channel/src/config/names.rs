//! Which names channels and their configuration elements may have
//! (Fabric: `common/configtx`, validator).

use super::ConfigError;

const MAX_LENGTH: usize = 249;

/// Checks the name of a channel: lower-case letters, digits, dots and dashes, a letter first, at
/// most 249 characters.
pub fn check_channel_id(name: &str) -> Result<(), ConfigError> {
    let is_allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c);
    let starts_with_letter = name.bytes().next().is_some_and(|c| c.is_ascii_lowercase());
    if starts_with_letter && name.len() <= MAX_LENGTH && name.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(ConfigError::ChannelName {
        found: name.chars().take(MAX_LENGTH + 1).collect(),
    })
}

/// Checks the name of a group, value or policy in the configuration tree.
pub(super) fn check_config_id(name: &str) -> Result<(), ConfigError> {
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b".-".contains(&c);
    let length_is_allowed = (1..=MAX_LENGTH).contains(&name.len());
    if length_is_allowed && !matches!(name, "." | "..") && name.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(ConfigError::ElementName {
        found: name.chars().take(MAX_LENGTH + 1).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_fabrics_rules() {
        for name in ["a", "my-channel.1"] {
            assert!(check_channel_id(name).is_ok(), "{name}");
        }
        for name in ["", "A", "1a", "a_b", ".", &"a".repeat(250)] {
            assert!(check_channel_id(name).is_err(), "{name}");
        }
        for name in ["Org1", "1.-x"] {
            assert!(check_config_id(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", &"a".repeat(250)] {
            assert!(check_config_id(name).is_err(), "{name}");
        }
    }
}
