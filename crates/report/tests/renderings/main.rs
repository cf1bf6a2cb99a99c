//! Renders records that look like real runs, and holds every rendering to what it promises.
//!
//! The modules are `cfg(test)` although all of this is a test: clippy allows `unwrap` only there.

#[cfg(test)]
mod demo;
#[cfg(test)]
mod extremes;
#[cfg(test)]
mod junit;
#[cfg(test)]
mod model;
#[cfg(test)]
mod page;
#[cfg(test)]
mod record;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod text;
