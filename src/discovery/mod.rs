//! Endpoints by name: what a host name or a service stands for now, asked again and again.
//!
//! Invariant: DNS can change where traffic goes, but not take it away by being unwell. Whatever fails, what was last
//! known good stands; that a name has nothing any more is believed only when it was said several times over. Nothing
//! here runs on a worker or touches a table: what was found is handed to the controller.
//!
//! A [`watch::Watch`] has a task for each name. A task has its [`round`]s: it puts the name's questions to an
//! [`ask::Ask`] ([`dns::Dns`], but in tests), has [`memory`] stand in for what failed, [`screen`]s out addresses that
//! can't be endpoints, weighs the targets of a [`service`], and tells the [`book`] and its owner.

pub mod ask;
pub mod book;
pub mod dns;
mod memory;
mod pace;
mod round;
pub mod screen;
mod service;
pub mod watch;
