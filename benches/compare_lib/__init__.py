"""The parts of `benches/compare` and `benches/instructions`. Python's standard library alone."""
