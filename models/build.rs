//! Has the files of `src/lib.rs` take loom's atomics, locks and counters.

fn main() {
    println!("cargo::rustc-cfg=switchback_loom");
}
