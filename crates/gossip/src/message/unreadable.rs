//! Entries of lists that do not parse.
//!
//! To Go's decoder a field of the wrong wire type is an unknown one, and groups may be a hundred times deeper than to
//! the one used here. It keeps what it does not know. So honest Go peers repeat envelopes, in membership responses
//! for instance, that this decoder refuses, and it would refuse the whole list for one of them.

use bytes::Bytes;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::Envelope;

use super::MessageError;
use super::bounds::Fields;

/// The fields of `GossipMessage` that are lists of envelopes, and in which of their fields these are.
const LISTS: [(u32, &[u32]); 3] = [
    (7, &[1, 2]), // membership response: alive, dead
    (12, &[2]),   // update: data
    (16, &[1]),   // state info snapshot: elements
];

/// The secret of an `Envelope`.
const SECRET: u32 = 3;

/// The key of a field 15 with a length, which no list has, so that decoders skip it.
const SKIPPED: u8 = 0x7a;

/// Hides the entries that do not parse in an encoded `GossipMessage` that does not parse. Returns it, and what was wrong
/// with each; `None` if there are none. Costs a copy of the message.
pub(super) fn hide(message: &[u8]) -> Option<(Bytes, Vec<MessageError>)> {
    let unreadable: Vec<_> = entries(message)
        .filter_map(|entry| Some((entry.start, read(entry.content).err()?)))
        .collect();
    if unreadable.is_empty() {
        return None;
    }
    let mut hidden = message.to_vec();
    for (start, _) in &unreadable {
        // The keys of entries are one byte each, unless the sender itself has made them longer.
        if let Some(key) = hidden.get_mut(*start).filter(|key| **key < 0x80) {
            *key = SKIPPED;
        }
    }
    let refused = unreadable.into_iter().map(|(_, error)| error).collect();
    Some((hidden.into(), refused))
}

/// Groups, which Fabric's envelopes do not have, may parse here and not in a list, where they are deeper.
fn read(entry: &[u8]) -> Result<(), MessageError> {
    for field in Fields(entry) {
        if let (SECRET, Some(secret)) = field? {
            Fields(secret).try_for_each(|field| field.map(drop))?;
        }
    }
    Envelope::decode(entry)?;
    Ok(())
}

/// A field with a length.
struct Located<'a> {
    number: u32,
    /// Where its key is in the message.
    start: usize,
    /// Where its content is.
    content_start: usize,
    content: &'a [u8],
}

fn entries(message: &[u8]) -> impl Iterator<Item = Located<'_>> {
    located(message, 0).flat_map(|list| {
        let fields = LISTS.iter().find(|(number, _)| *number == list.number);
        let fields = fields.map_or(&[][..], |(_, fields)| fields);
        located(list.content, list.content_start)
            .filter(move |entry| fields.contains(&entry.number))
    })
}

/// The fields with a length of a part of the message that begins at `offset`.
fn located(part: &[u8], offset: usize) -> impl Iterator<Item = Located<'_>> {
    let mut fields = Fields(part);
    let mut end = offset;
    let next = move || {
        let field = fields.next()?.ok()?;
        let start = std::mem::replace(&mut end, offset + part.len() - fields.0.len());
        Some((field, start, end))
    };
    std::iter::from_fn(next).filter_map(|((number, content), start, end)| {
        let content = content?;
        Some(Located {
            number,
            start,
            content_start: end - content.len(),
            content,
        })
    })
}
