//! Which names may become folders.

use crate::LedgerError;

/// The longest channel id, in bytes (Fabric: `configtx.MaxLength`).
pub const MAX_CHANNEL_ID_LENGTH: usize = 249;

/// Checks `id` by Fabric's rule: `[a-z][a-z0-9.-]*`, at most 249 bytes
/// (Fabric: `configtx.ValidateChannelID`). What passes is safe as the name of a folder.
pub fn validate_channel_id(id: &str) -> Result<(), LedgerError> {
    let refuse = |reason| {
        Err(LedgerError::InvalidChannelId {
            id: id.chars().take(MAX_CHANNEL_ID_LENGTH).collect(),
            reason,
        })
    };
    let Some(first) = id.bytes().next() else {
        return refuse("it is empty");
    };
    if id.len() > MAX_CHANNEL_ID_LENGTH {
        return refuse("it is longer than 249 bytes");
    }
    if !first.is_ascii_lowercase() {
        return refuse("it does not begin with a lower-case letter");
    }
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if !id.bytes().all(allowed) {
        return refuse("only lower-case letters, digits, dots and hyphens are allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fabric_rules_for_channel_ids() {
        for good in ["a", "mychannel", "my-channel.2", &"c".repeat(249)] {
            assert!(validate_channel_id(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "1a",
            ".",
            "..",
            "-a",
            "a/b",
            "a_b",
            "a b",
            "aä",
            &"c".repeat(250),
        ] {
            assert!(validate_channel_id(bad).is_err(), "{bad}");
        }
    }
}
