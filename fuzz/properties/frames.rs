//! What holds for every stretch of bytes in which the relay looks for a message of Postgres' protocol.

use super::frame::message_length;

pub(crate) fn check(input: &[u8]) {
    for header in [0, 1] {
        one(input, header);
    }
    carried(input);
}

fn one(buffer: &[u8], header: usize) {
    let Some(length) = message_length(buffer, header) else {
        return;
    };
    assert!(length >= header + 4, "less than its own length: {length}");
    assert!(length <= buffer.len(), "not all there: {length}");
    for shorter in 0..length.min(64) {
        assert_eq!(message_length(&buffer[..shorter], header), None);
    }
    assert_eq!(message_length(&buffer[..length], header), Some(length));
}

/// Bytes arrive in pieces, and the messages are the same.
fn carried(input: &[u8]) {
    let whole = cut(input.len().max(1), input);
    for piece in [1, 3] {
        assert_eq!(cut(piece, input), whole, "in pieces of {piece}");
    }
}

/// The lengths of the messages, as the relay finds them in what arrives.
fn cut(piece: usize, input: &[u8]) -> Vec<usize> {
    let (mut buffer, mut lengths, mut header) = (Vec::new(), Vec::new(), 0);
    for arrived in input.chunks(piece) {
        buffer.extend_from_slice(arrived);
        while let Some(length) = message_length(&buffer, header) {
            buffer.drain(..length);
            lengths.push(length);
            header = 1;
        }
    }
    lengths
}
