//! PEM, read with the same leniency as Go's `encoding/pem`: text around a block is skipped, so is a
//! block that is broken, header lines are ignored, base64 is padded and may be wrapped anyhow.

/// The label of certificates.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"\n-----END ";
const DASHES: &[u8] = b"-----";

/// One block: what stands between its BEGIN and END lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) has_headers: bool,
    pub(crate) contents: Vec<u8>,
}

/// The first block of `text`, and what follows it.
pub(crate) fn decode(text: &[u8]) -> Option<(Block, &[u8])> {
    let mut from = 0;
    loop {
        let end = from + find(text.get(from..)?, END)?;
        match decode_before(text, from, end) {
            Attempt::Found(block, rest) => return Some((block, text.get(rest..)?)),
            Attempt::GiveUp => return None,
            Attempt::Skip => from = end + END.len(),
        }
    }
}

/// All blocks of `text`.
pub(crate) fn decode_all(text: &[u8]) -> impl Iterator<Item = Block> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (block, after) = decode(rest)?;
        rest = after;
        Some(block)
    })
}

/// A block in lines of 64 characters, as Go writes it.
pub(crate) fn encode(label: &str, contents: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in contents.chunks(48) {
        encode_base64(line, &mut text);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

enum Attempt {
    /// A block, and where the text goes on.
    Found(Block, usize),
    /// No block; there may be one further on.
    Skip,
    /// Header lines run beyond the end of the block, and Go looks no further.
    GiveUp,
}

/// Tries the block between `from` and the END line that begins (with a line break) at `end`. Of several
/// BEGIN lines the last counts.
fn decode_before(text: &[u8], from: usize, end: usize) -> Attempt {
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let after_end = end + END.len();
    let Some(begin) = find_last(part(from..end), BEGIN).map(|at| from + at) else {
        return Attempt::Skip;
    };
    if begin > from && part(begin - 1..begin) != b"\n" {
        return Attempt::Skip;
    }
    let mut body = begin + BEGIN.len();
    let (line, length) = first_line(part(body..text.len()));
    body += length;
    let Some(label) = line.strip_suffix(DASHES) else {
        return Attempt::Skip;
    };

    let mut has_headers = false;
    loop {
        if body >= text.len() {
            return Attempt::GiveUp;
        }
        let (line, length) = first_line(part(body..text.len()));
        if !line.contains(&b':') {
            break;
        }
        has_headers = true;
        body += length;
    }
    if has_headers && body > end {
        return if body > after_end {
            Attempt::GiveUp
        } else {
            Attempt::Skip
        };
    }

    let closing = label.len() + DASHES.len();
    let after_closing = after_end + closing;
    let is_closed = part(after_end..after_closing)
        .strip_prefix(label)
        .is_some_and(|dashes| dashes == DASHES);
    let (trailing, length) = first_line(part(after_closing..text.len()));
    if !is_closed || !trailing.is_empty() {
        return Attempt::Skip;
    }
    match decode_base64(part(body..end)) {
        Some(contents) => Attempt::Found(
            Block {
                label: String::from_utf8_lossy(label).into_owned(),
                has_headers,
                contents,
            },
            after_closing + length,
        ),
        None => Attempt::Skip,
    }
}

/// The first line without blanks at its end, and its length with them and with the line break, which
/// may be preceded by a carriage return.
fn first_line(text: &[u8]) -> (&[u8], usize) {
    let (line, length) = match text.iter().position(|&byte| byte == b'\n') {
        Some(at) => {
            let line = text.get(..at).unwrap_or_default();
            (line.strip_suffix(b"\r").unwrap_or(line), at + 1)
        }
        None => (text, text.len()),
    };
    let end = line
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'\t'))
        .map_or(0, |last| last + 1);
    (line.get(..end).unwrap_or_default(), length)
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|part| part == pattern)
}

fn find_last(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len())
        .rposition(|part| part == pattern)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode_base64(bytes: &[u8], out: &mut String) {
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        for position in 0..4 {
            if position <= group.len() {
                let index = word >> (18 - 6 * position) & 0x3f;
                let symbol = ALPHABET.get(usize::try_from(index).unwrap_or_default());
                out.push(char::from(*symbol.unwrap_or(&b'=')));
            } else {
                out.push('=');
            }
        }
    }
}

/// Standard base64 with padding; blanks and line breaks count for nothing, and what the unused bits
/// before the padding hold does not matter (Go's `StdEncoding`).
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut symbols, mut padding) = (0u32, 0, 0);
    for &byte in text {
        let value = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'=' => {
                padding += 1;
                continue;
            }
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        word = word << 6 | u32::from(value);
        symbols += 1;
        if symbols == 4 {
            let [_, first, second, third] = word.to_be_bytes();
            out.extend([first, second, third]);
            (word, symbols) = (0, 0);
        }
    }
    let [_, first, second, _] = (word << (6 * (4 - symbols)) as u32).to_be_bytes();
    match (symbols, padding) {
        (0, 0) => {}
        (2, 2) => out.push(first),
        (3, 1) => out.extend([first, second]),
        _ => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(body: &str) -> String {
        format!("-----BEGIN X-----\n{body}\n-----END X-----\n")
    }

    fn contents(text: &str) -> Option<Vec<u8>> {
        decode(text.as_bytes()).map(|(block, _)| block.contents)
    }

    #[test]
    fn text_around_a_block_is_skipped() {
        let text = format!("some words\n{}more", text("aGVsbG8="));
        let (block, rest) = decode(text.as_bytes()).unwrap();
        assert_eq!(
            (block.label.as_str(), &block.contents[..]),
            ("X", &b"hello"[..])
        );
        assert_eq!(rest, b"more");
    }

    #[test]
    fn a_broken_block_is_skipped() {
        let both = format!("{}{}", text("a!b="), text("aGVsbG8="));
        assert_eq!(contents(&both).unwrap(), b"hello");
        let unfinished = format!("-----BEGIN X-----\naGVs\n{}", text("aGVsbG8="));
        assert_eq!(contents(&unfinished).unwrap(), b"hello");
    }

    #[test]
    fn headers_blanks_and_odd_line_lengths_pass() {
        let block = "-----BEGIN X-----\r\nKey: value\r\n\r\naG Vs\r\nbG\t8=\r\n-----END X-----";
        assert_eq!(contents(block).unwrap(), b"hello");
        assert!(decode(block.as_bytes()).unwrap().0.has_headers);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        assert_eq!(contents(&text("aGVsbG8")), None);
        assert_eq!(contents(&text("aGVsbG8==")), None);
        assert_eq!(contents(&text("aGVs=bG8")), None);
        assert_eq!(contents("-----BEGIN X-----\naGVs\n-----END Y-----\n"), None);
        assert_eq!(
            contents("-----BEGIN X-----\naGVs\n-----END X-----junk\n"),
            None
        );
        assert_eq!(
            contents(" -----BEGIN X-----\naGVs\n-----END X-----\n"),
            None
        );
        assert_eq!(contents("-----BEGIN X-----\naGVs-----END X-----\n"), None);
        assert_eq!(contents("-----BEGIN X-----\naGVs\n-----END X-----\r"), None);
    }

    #[test]
    fn headers_that_run_into_the_next_block_end_the_search() {
        let good = text("aGVsbG8=");
        let bad = "-----BEGIN Y-----\nA: b\n-----END Y: z-----\n";
        assert_eq!(contents(&format!("{bad}{good}")), None);
        let bad = "-----BEGIN Y-----\nA: b\n-----END Z-----\n";
        assert_eq!(contents(&format!("{bad}{good}")).unwrap(), b"hello");
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
            let text = encode("ANY LABEL", &bytes);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            let (block, rest) = decode(text.as_bytes()).unwrap();
            prop_assert_eq!(block.contents, bytes);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn junk_does_no_harm(text in "(-----(BEGIN|END) [A-Z]?(-----)?|\n|:|[a-z=]{0,4}){0,12}") {
            let _ = decode_all(text.as_bytes()).count();
        }
    }
}
