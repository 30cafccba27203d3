//! The HTTP/1.1 codec: pure, no I/O.
