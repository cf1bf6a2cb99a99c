//! Where the messages of Postgres' protocol end.

/// The length of the first message, when all of it is there. `header` is the length of its type.
pub(crate) fn message_length(buffer: &[u8], header: usize) -> Option<usize> {
    let length = u32::from_be_bytes(*buffer.get(header..)?.first_chunk()?);
    let whole = header.checked_add(usize::try_from(length).ok()?)?;
    // The length counts itself: with less than that it is none, and nothing would ever be cut off.
    (length >= 4 && buffer.len() >= whole).then_some(whole)
}
