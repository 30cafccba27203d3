//! The application side: endpoints and the claims on them, which endpoint of a pool is taken, each worker's
//! connections, and what bounds them all.

pub mod balance;
pub mod connections;
pub mod drain;
pub mod endpoint;
pub mod gate;
pub mod http2;
pub mod local;
pub mod occupancy;
pub mod outcomes;
pub mod places;
pub mod pleas;
pub mod pool;
pub mod registry;
pub mod socket;
pub mod stream;
pub mod waiting;
pub mod warmth;
pub mod way;
