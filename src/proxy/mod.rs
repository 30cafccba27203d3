//! The data plane: workers, listeners, connections, the handler, forwarding.
