//! The examples run, and what they assert holds.

#[path = "../examples/pool.rs"]
mod pool;
#[path = "../examples/retry.rs"]
mod retry;
#[path = "../examples/session.rs"]
mod session;

#[test]
fn the_example_of_a_pool_runs() {
    pool::main().unwrap();
}

#[test]
fn the_example_of_a_session_runs() {
    session::main().unwrap();
}

#[test]
fn the_example_of_retries_runs() {
    retry::main().unwrap();
}
