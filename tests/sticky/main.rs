//! Sessions that stay: over real sockets, against forged pins, through changes of keys, weights and health.

#[path = "../support/mod.rs"]
mod support;

mod assets;
mod browser;
mod changes;
mod drains;
mod forged;
mod keys;
mod places;
mod proof;
mod staying;
