//! Where the messages of Postgres' protocol end.

/// The length of the first message, when all of it is there. `header` is the length of its type.
pub(crate) fn message_length(buffer: &[u8], header: usize) -> Option<usize> {
    let length = buffer.get(header..header + 4)?;
    let length = u32::from_be_bytes(length.try_into().unwrap());
    let length = usize::try_from(length).unwrap();
    let whole = header + length;
    // The length counts itself: with less than that it is none, and nothing would ever be cut off.
    (length >= 4 && buffer.len() >= whole).then_some(whole)
}
