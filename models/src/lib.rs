//! What workers share without a lock, as `switchback::upstream` has it, for the model checks in `tests/`.

#[path = "../../src/upstream/occupancy.rs"]
pub mod occupancy;
#[path = "../../src/upstream/places.rs"]
pub mod places;
