//! Why a request would go where it goes, step by step.
