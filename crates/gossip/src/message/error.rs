//! Why a message was refused.

use selvedge_protos::DecodeError;
use selvedge_protos::gossip::gossip_message::Tag;

use crate::crypto::Refusal;
use crate::types::PkiId;

/// Why a message, or an envelope nested in it, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A field is larger than its kind may be.
    #[error("field {field} of a gossip message has {found} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Field number.
        field: u32,
        /// Its size.
        found: usize,
        /// The bound.
        limit: usize,
    },
    /// The whole frame is too large.
    #[error("gossip frame of {found} bytes, at most {limit} are accepted")]
    FrameTooLarge {
        /// Its size.
        found: usize,
        /// The bound.
        limit: usize,
    },
    /// Too many elements in repeated fields.
    #[error("gossip message with more than {limit} elements")]
    TooManyElements {
        /// The bound.
        limit: usize,
    },
    /// Ends in the middle of a field, or is no protobuf message at all.
    #[error("gossip message is truncated or malformed")]
    Truncated,
    /// Does not parse.
    #[error("gossip message does not parse: {0}")]
    Malformed(#[from] DecodeError),
    /// Has none of the known contents.
    #[error("gossip message without content")]
    NoContent,
    /// The tag does not fit the content.
    #[error("{kind} has the tag {found:?}, must be {expected:?}")]
    WrongTag {
        /// What it is.
        kind: &'static str,
        /// What the tag must be.
        expected: Tag,
        /// What it is; `None`: a number without meaning.
        found: Option<Tag>,
    },
    /// A pull message of neither blocks nor identities.
    #[error("pull message of the unknown type {0}")]
    UnknownPullType(i32),
    /// The channel's name is empty, too long, or not UTF-8.
    #[error("{kind} names no valid channel")]
    BadChannel {
        /// What it is.
        kind: &'static str,
    },
    /// A field that must be there is missing or has the wrong length.
    #[error("{kind} without a valid {field}")]
    BadField {
        /// What it is.
        kind: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A kind that does not stand by itself on an open stream.
    #[error("{kind} outside of its place")]
    OutOfPlace {
        /// What it is.
        kind: &'static str,
    },
    /// A nested envelope holds something else than it should.
    #[error("expected {expected} inside of another message, found {found}")]
    Nested {
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// No signature where there must be one.
    #[error("{kind} is not signed")]
    Unsigned {
        /// What it is.
        kind: &'static str,
    },
    /// The identity of the author is not known (yet).
    #[error("{kind} of {author}, whose identity is not known")]
    UnknownAuthor {
        /// What it is.
        kind: &'static str,
        /// Who claims to be its author.
        author: PkiId,
    },
    /// The identity does not belong to the PKI-ID.
    #[error("{kind} claims to be of {claimed}, its identity is that of {found}")]
    ForeignIdentity {
        /// What it is.
        kind: &'static str,
        /// The PKI-ID in the message.
        claimed: PkiId,
        /// The PKI-ID of the identity.
        found: PkiId,
    },
    /// So much of what is nested in a message was refused that the rest was not looked at.
    #[error("{unread} nested messages were not looked at, since too many before them were refused")]
    GivenUp {
        /// The rest.
        unread: usize,
    },
    /// More messages of one author in one list than anybody needs; these were not looked at.
    #[error("{unread} nested messages were not looked at, since their authors have others there")]
    Repeated {
        /// How many.
        unread: usize,
    },
    /// Identity or signature was refused.
    #[error("{kind} of {author}: {refusal}")]
    Refused {
        /// What it is.
        kind: &'static str,
        /// Who claims to be its author.
        author: PkiId,
        /// Why.
        refusal: Refusal,
    },
}

impl MessageError {
    /// A name for labels of metrics. It begins with `message_`, so that it is none of a
    /// [`DropReason`](crate::counters::DropReason).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "message_field_too_large",
            Self::FrameTooLarge { .. } => "message_too_large",
            Self::TooManyElements { .. } => "message_too_many_elements",
            Self::Truncated => "message_truncated",
            Self::Malformed(_) => "message_malformed",
            Self::NoContent => "message_without_content",
            Self::WrongTag { .. } => "message_wrong_tag",
            Self::UnknownPullType(_) => "message_unknown_pull_type",
            Self::BadChannel { .. } => "message_bad_channel",
            Self::BadField { .. } => "message_bad_field",
            Self::OutOfPlace { .. } => "message_out_of_place",
            Self::Nested { .. } => "message_wrong_nesting",
            Self::Unsigned { .. } => "message_unsigned",
            Self::UnknownAuthor { .. } => "message_unknown_author",
            Self::ForeignIdentity { .. } => "message_foreign_identity",
            Self::Repeated { .. } => "message_repeated_author",
            Self::GivenUp { .. } => "message_given_up",
            Self::Refused { .. } => "message_identity_or_signature",
        }
    }
}
