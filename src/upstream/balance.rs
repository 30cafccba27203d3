//! Which endpoint of a pool is taken.
