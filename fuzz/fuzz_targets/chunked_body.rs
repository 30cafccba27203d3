//! Any bytes as chunked coding: no panic, the same result however they come in, and what goes out is canonical and
//! carries the same data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use switchback_fuzz::wire::chunked::{ChunkError, Chunked, Output};

fuzz_target!(|input: &[u8]| {
    // The first byte says how the rest is split.
    let Some((size, bytes)) = input.split_first() else { return };
    let at_once = read(bytes, bytes.len().max(1), false);
    for by_verbatim in [false, true] {
        let in_pieces = read(bytes, usize::from(*size).max(1), by_verbatim);
        match (&at_once, &in_pieces) {
            (Ok(one), Ok(other)) => assert!(one == other, "{one:?} is not {other:?}"),
            (Err(_), Err(_)) => {}
            (one, other) => panic!("{one:?} at once, {other:?} in pieces"),
        }
    }
    let Ok((coded, consumed, true)) = at_once else { return };
    let mut data = Vec::new();
    let mut chunked = Chunked::default();
    assert_eq!(chunked.advance(bytes, Output::Data, &mut data), Ok(consumed));
    assert_eq!(chunked.data_bytes(), data.len() as u64);
    let (again, read_again, is_done) =
        read(&coded, coded.len(), true).expect("what we write is chunked coding");
    assert!(is_done && read_again == coded.len() && again == coded, "it is its own canonical form");
    let mut same = Vec::new();
    Chunked::default().advance(&coded, Output::Data, &mut same).expect("what we write is chunked coding");
    assert_eq!(same, data);
});

type Read = Result<(Vec<u8>, usize, bool), ChunkError>;

/// What goes out, how many bytes were read, and whether the body ended.
fn read(bytes: &[u8], size: usize, by_verbatim: bool) -> Read {
    let mut chunked = Chunked::default();
    let (mut out, mut at) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let direct = if by_verbatim { chunked.verbatim(piece) } else { 0 };
        out.extend_from_slice(&piece[..direct]);
        let more = chunked.advance(&piece[direct..], Output::Chunks, &mut out)?;
        at += direct + more;
        if chunked.is_done() {
            break;
        }
        assert_eq!(direct + more, piece.len(), "all is read unless the body ended");
    }
    Ok((out, at, chunked.is_done()))
}
