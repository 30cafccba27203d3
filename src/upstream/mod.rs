//! The application side: endpoints and the claims on them, which endpoint of a pool is taken, and each worker's
//! connections.

pub mod balance;
pub mod connections;
pub mod drain;
pub mod endpoint;
pub mod local;
pub mod occupancy;
pub mod outcomes;
pub mod pool;
pub mod registry;
