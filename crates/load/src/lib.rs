//! Load: when ops arrive, what they contain, who runs them, and how long they take.

mod subject;

pub use subject::{OpEnd, Subject, SubjectInfo, Trace};
