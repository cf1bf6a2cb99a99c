//! Clusters of the Postgres that is installed here: started, used, broken, killed, reaped.

mod admin;
mod cluster;
mod reaper;
mod traces;
