//! The admin HTTP API over `control`.
