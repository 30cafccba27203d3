//! Composition: builds the planes, starts them and stops them in order.
