//! Operations that end at any message of the protocol: for every m, when the m-th message is about to
//! be released, when its first byte is, and when all of it is, the future is dropped or the link breaks.
//! Afterwards no transaction is open, the next borrower is clean, all connections can be had, and what
//! is stored is what was reported.

mod acquiring;
mod rig;
mod transaction;

use crate::relay::Cut;

/// What happens where the traffic has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The future of the whole operation is dropped.
    Drop,
    /// The future of the one statement is dropped, and its transaction goes on.
    DropStatement,
    /// The link between pool and server breaks, and the operation goes on.
    Break,
}

/// One place to stop at.
#[derive(Debug, Clone, Copy)]
struct Stop {
    /// Counted from one.
    message: u32,
    cut: Cut,
    then: Then,
}

/// Tries every message, until one is not reached because the operation has fewer. Returns how many it
/// has.
async fn sweep(then: Then, cut: Cut, mut reached: impl AsyncFnMut(Stop) -> bool) -> u32 {
    for message in 1..200 {
        let stop = Stop { message, cut, then };
        if !reached(stop).await {
            return message - 1;
        }
    }
    panic!("the operation does not end within 200 messages");
}

/// A link that breaks after a message breaks before the next; after the last one it breaks between two
/// operations, which is not what is tested here.
fn cuts(then: Then) -> &'static [Cut] {
    match then {
        Then::Drop | Then::DropStatement => &[Cut::Before, Cut::FirstByte, Cut::After],
        Then::Break => &[Cut::Before, Cut::FirstByte],
    }
}
