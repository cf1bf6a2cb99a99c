//! What the generated programs are made of.

use proptest::prelude::*;

/// Tasks that run at the same time on one pool and one table.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) tasks: Vec<Vec<Act>>,
}

/// What a task does on a session.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// A row, in a transaction of its own.
    Insert,
    /// The same; its future is polled once and dropped.
    AbandonInsert,
    /// A transaction whose future is polled once and dropped.
    AbandonBegin,
    /// Gives the session back and takes another.
    Renew,
    Transaction(Scope),
}

/// A transaction, or what is under a savepoint.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) steps: Vec<Step>,
    pub(super) ending: Ending,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Inserts a row that no other step inserts.
    Insert,
    /// Changes the row that this task inserted last, if it is there.
    Update,
    /// Adds one to a row that all tasks share.
    Count,
    /// Inserts a row that the server will refuse, but not before COMMIT.
    Owe,
    /// A statement that fails, of one of several kinds.
    Fail(u8, Reaction),
    /// An insert whose future is polled once and dropped.
    Abandon,
    /// A savepoint whose future is polled once and dropped.
    AbandonSavepoint,
    /// COMMIT, or the like, as a statement.
    Control(u8),
    /// What to do when it ends badly, too.
    Savepoint(Scope, Reaction),
}

/// What is done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    Swallow,
    PassOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// COMMIT or RELEASE.
    Well,
    /// ROLLBACK or ROLLBACK TO.
    Error,
    Panic,
    /// The scope's future is dropped while no statement is in flight.
    Dropped,
    /// The scope's future is dropped when COMMIT or RELEASE was just written.
    DroppedLate,
}

pub(super) fn programs() -> impl Strategy<Value = Program> {
    let act = prop_oneof![
        2 => Just(Act::Insert),
        1 => Just(Act::AbandonInsert),
        1 => Just(Act::AbandonBegin),
        1 => Just(Act::Renew),
        8 => scopes().prop_map(Act::Transaction),
    ];
    proptest::collection::vec(proptest::collection::vec(act, 1..5), 1..4)
        .prop_map(|tasks| Program { tasks })
}

fn scopes() -> impl Strategy<Value = Scope> {
    let leaf = scope_of(flat_steps().boxed());
    leaf.prop_recursive(3, 16, 4, |inner| {
        let nested = (inner, reactions()).prop_map(|(scope, then)| Step::Savepoint(scope, then));
        scope_of(prop_oneof![3 => flat_steps(), 2 => nested].boxed())
    })
}

fn scope_of(step: BoxedStrategy<Step>) -> BoxedStrategy<Scope> {
    (proptest::collection::vec(step, 0..5), endings())
        .prop_map(|(steps, ending)| Scope { steps, ending })
        .boxed()
}

fn flat_steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Insert),
        4 => Just(Step::Update),
        2 => Just(Step::Count),
        1 => Just(Step::Owe),
        2 => (any::<u8>(), reactions()).prop_map(|(kind, then)| Step::Fail(kind, then)),
        1 => Just(Step::Abandon),
        1 => Just(Step::AbandonSavepoint),
        1 => any::<u8>().prop_map(Step::Control),
    ]
}

fn reactions() -> impl Strategy<Value = Reaction> {
    prop_oneof![Just(Reaction::Swallow), Just(Reaction::PassOn)]
}

fn endings() -> impl Strategy<Value = Ending> {
    prop_oneof![
        6 => Just(Ending::Well),
        2 => Just(Ending::Error),
        1 => Just(Ending::Panic),
        1 => Just(Ending::Dropped),
        1 => Just(Ending::DroppedLate),
    ]
}
