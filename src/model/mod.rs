//! Pure values and pure logic. Nothing here does I/O, reads a clock, draws a random number of its own, or knows
//! tokio: time and randomness are passed in.

pub mod access_log;
pub mod adaptive;
pub mod as_text;
pub mod bucket;
pub mod ejection;
pub mod endpoint_address;
pub mod health;
pub mod host;
pub mod hyperloglog;
pub mod key_lines;
pub mod live_state;
pub mod name;
pub mod outlier;
pub mod path;
pub mod pin;
pub mod pin_keys;
pub mod resolved;
pub mod role;
pub mod sequence;
pub mod slow_start;
pub mod tokens;
pub mod weights;
