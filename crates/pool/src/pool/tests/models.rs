//! The shell in every order of events: small worlds exhaustively by loom, larger ones in orders that shuttle
//! draws.
//!
//! Both include the very file that the pool uses, `shell.rs`, beside a `sync` module with locks of their own;
//! and a pool (`bare.rs`) and acquires and leases (`borrower.rs`) that do with the shell what the real ones do,
//! without a runtime. The books, `State`, are those of the crate. After each execution nobody may wait, every
//! connection that is alive must be idle, the leases that were issued must be those that were seen, the books
//! must pass their audit, and the pool must lend as many connections as it may and not one more.
//!
//! Seen red, by loom and by shuttle, with each of these planted: `put` forgets to wake, or wakes under the lock;
//! `leave` does nothing; `cancel` forgets a grant; `look` keeps an outdated waker, or drops the former one under
//! the lock; `expire` loses a grant; `close` or any other transition does not wake; `ask_quickly` looks and
//! queues in two steps; newcomers queue before all others; `lost` keeps the slot.

#[expect(clippy::duplicate_mod, reason = "the same files, with other locks")]
mod loom;
#[expect(clippy::duplicate_mod, reason = "the same files, with other locks")]
mod shuttle;
