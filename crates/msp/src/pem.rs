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
    let mut rest = text;
    loop {
        let end = find(rest, END)?;
        let after_end = rest.get(end + END.len()..)?;
        match decode_before(rest.get(..end)?, after_end) {
            Some(found) => return Some(found),
            None => rest = after_end,
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

/// Tries the block whose END line begins between `before` and `after_end`. Of several BEGIN lines
/// the last counts.
fn decode_before<'a>(before: &[u8], after_end: &'a [u8]) -> Option<(Block, &'a [u8])> {
    let begin = find_last(before, BEGIN)?;
    if begin > 0 && before.get(begin - 1) != Some(&b'\n') {
        return None;
    }
    let (line, mut body) = split_line(before.get(begin + BEGIN.len()..)?);
    let label = line.strip_suffix(DASHES)?;

    let mut has_headers = false;
    loop {
        let (line, next) = split_line(body);
        if !line.contains(&b':') {
            break;
        }
        has_headers = true;
        body = next;
    }

    let after_label = after_end.strip_prefix(label)?.strip_prefix(DASHES)?;
    let (trailing, rest) = split_line(after_label);
    if !trailing.is_empty() {
        return None;
    }
    let block = Block {
        label: String::from_utf8_lossy(label).into_owned(),
        has_headers,
        contents: decode_base64(body)?,
    };
    Some((block, rest))
}

/// The first line without white space at its end, and what follows the line break.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match text.iter().position(|&byte| byte == b'\n') {
        Some(at) => (
            text.get(..at).unwrap_or_default(),
            text.get(at + 1..).unwrap_or_default(),
        ),
        None => (text, &[][..]),
    };
    let end = line
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\r'))
        .map_or(0, |last| last + 1);
    (line.get(..end).unwrap_or_default(), rest)
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
