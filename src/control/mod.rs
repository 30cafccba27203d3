//! The control plane: commands, the state they change, and the one task that applies them.
