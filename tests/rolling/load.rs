//! Requests at a constant rate, each with a name of its own: GET and POST, over kept connections and over new ones.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::support::Client;

/// How many clients share the rate.
pub const CLIENTS: usize = 12;

/// What became of one request.
#[derive(Debug)]
pub struct Outcome {
    /// Its name.
    pub id: String,
    pub method: &'static str,
    /// What its client got instead of its answer.
    pub failure: Option<String>,
}

/// All requests of a load.
pub struct Load {
    pub outcomes: Vec<Outcome>,
}

/// Sends so many requests a second until told to stop.
pub fn run(address: SocketAddr, rate: u32, stop: &AtomicBool) -> Load {
    let every = Duration::from_secs(CLIENTS as u64) / rate;
    thread::scope(|scope| {
        let running: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(address, number, every, stop))).collect();
        let outcomes = running.into_iter().flat_map(|client| client.join().expect("a client does not panic"));
        Load { outcomes: outcomes.collect() }
    })
}

/// One client: the even ones keep their connection, the odd ones connect anew for each request.
fn client(address: SocketAddr, number: usize, every: Duration, stop: &AtomicBool) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut kept = None;
    let begun = Instant::now();
    for request in 0u32.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        // The rate is the test's: each request has its moment.
        thread::sleep((every * request).saturating_sub(begun.elapsed()));
        let id = format!("{number}-{request}");
        let method = if request % 3 == 2 { "POST" } else { "GET" };
        let mut connection = kept.take().unwrap_or_else(|| Client::connect(address));
        let body = if method == "POST" { id.as_str() } else { "" };
        let length =
            if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        connection.send(format!("{method} /{id} HTTP/1.1\r\nHost: a.example\r\n{length}\r\n{body}"));
        let failure = match connection.try_response(method) {
            Ok(answer) if answer.status == 200 && answer.broken.is_none() && answer.text() == id => {
                if number.is_multiple_of(2) && !answer.closes() {
                    kept = Some(connection);
                }
                None
            }
            Ok(answer) => Some(format!("{} {:?} {}", answer.status, answer.broken, answer.text())),
            Err(broken) => Some(format!("{broken:?}")),
        };
        outcomes.push(Outcome { id, method, failure });
    }
    outcomes
}
