//! Renders records that look like real runs, and holds every rendering to what it promises.

mod demo;
mod page;
