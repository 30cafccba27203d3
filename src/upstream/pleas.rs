//! How a worker asks the others to give up an idle connection to an endpoint that may have no more.
//!
//! A plea is a hint: who hears it closes what it can spare while somebody still waits. One that is lost in a crowd
//! costs a wait until the next connection is free, never more than the cap allows.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::endpoint::EndpointId;

/// A bell for each worker.
#[derive(Debug, Default)]
pub struct Pleas(Vec<Bell>);

#[derive(Debug, Default)]
struct Bell {
    rings: Notify,
    /// For which endpoints, each once. The lock is taken by those who wait for a connection and by the bell's owner.
    endpoints: Mutex<Vec<EndpointId>>,
}

impl Pleas {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Bell::default()).collect())
    }

    /// A worker asks all others for a connection to an endpoint.
    pub fn ask(&self, worker: usize, endpoint: EndpointId) {
        for (_, bell) in self.0.iter().enumerate().filter(|(index, _)| *index != worker) {
            let mut endpoints = bell.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
                drop(endpoints);
                bell.rings.notify_one();
            }
        }
    }

    /// Waits until a worker is asked.
    pub async fn heard(&self, worker: usize) {
        self.0[worker].rings.notified().await;
    }

    /// For which endpoints a worker was asked since it was last told.
    pub fn taken(&self, worker: usize) -> Vec<EndpointId> {
        std::mem::take(&mut *self.0[worker].endpoints.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
