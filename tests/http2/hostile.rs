//! Floods, and clients that leave things undone: each costs its own connection, and others are served meanwhile.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    raw::{
        CALM, CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GO_AWAY, HEADERS, INTERNAL_ERROR, PING,
        PREFACE, PRIORITY, RESET, Raw, SETTINGS, WINDOW_UPDATE, block, frame, number,
    },
    support::{Setup, Switchback, Upstream, upstream::response, wait_until},
};

/// What is sent in each round of a flood.
type Frames<'a> = Box<dyn FnMut(u32) -> Vec<u8> + 'a>;

/// Sends without end, reading all the while; answers the reason of the GOAWAY that ended it.
fn flooded(mut raw: Raw, mut frames: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    const MOST: u32 = 400_000;
    let told = Arc::new(AtomicBool::new(false));
    let mut writer = raw.stream.try_clone().expect("a socket");
    let reader = {
        let told = Arc::clone(&told);
        thread::spawn(move || {
            let mut reason = None;
            while let Some(frame) = raw.read() {
                if frame.kind == GO_AWAY {
                    reason = Some(number(&frame.payload[4..]));
                    told.store(true, Ordering::Relaxed);
                }
            }
            reason
        })
    };
    let mut sent = 0;
    while sent < MOST && !told.load(Ordering::Relaxed) {
        let batch: Vec<u8> = (sent..sent + 50).flat_map(&mut frames).collect();
        sent += 50;
        if writer.write_all(&batch).is_err() {
            break;
        }
    }
    let reason = reader.join().expect("no panic");
    println!("{sent} rounds were sent");
    reason
}

#[test]
fn row_21_floods_are_ended_and_others_are_served() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    let get = block(GET);
    let head = |stream: u32, flags| frame(HEADERS, flags | END_HEADERS, stream, &get);
    let reset = |stream: u32| frame(RESET, 0, stream, &8u32.to_be_bytes());
    let id = |round: u32| 2 * round + 1;
    let floods: [(&str, Frames<'_>); 8] = [
        ("rapid reset", Box::new(|round| [head(id(round), END_STREAM), reset(id(round))].concat())),
        ("pings", Box::new(|_| frame(PING, 0, 0, b"12345678"))),
        ("settings", Box::new(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]))),
        ("windows", Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()))),
        ("priorities", Box::new(|round| frame(PRIORITY, 0, id(round), &[0, 0, 0, 0, 1]))),
        ("unknown frames", Box::new(|_| frame(0xee, 0, 0, b"what?"))),
        (
            "empty data",
            Box::new(|round| {
                let begin = if round == 0 { head(1, 0) } else { Vec::new() };
                [begin, frame(DATA, 0, 1, b"")].concat()
            }),
        ),
        (
            "continuations",
            Box::new(|round| match round {
                0 => frame(HEADERS, 0, 1, &get),
                _ => frame(CONTINUATION, 0, 1, b""),
            }),
        ),
    ];
    let mut client = switchback.client();
    let before = switchback.memory("VmRSS");
    for (what, frames) in floods {
        let reason = flooded(Raw::connect(switchback.address), frames);
        assert_eq!(reason, Some(CALM), "{what}");
        let answer = client.exchange("GET /other HTTP/1.1\r\nHost: a.example\r\n\r\n").whole();
        assert_eq!(answer.status, 200, "{what}");
    }
    let grown = switchback.memory("VmRSS").saturating_sub(before);
    assert!(grown < 24 << 20, "floods have left {grown} bytes");
    assert!(switchback.metric("switchback_http2_goaways_total{reason=\"flood\"}") >= 7.0);
    wait_until("no stream is open", || switchback.metric("switchback_http2_streams_open") == 0.0);
}

#[test]
fn a_small_block_of_fields_that_stands_for_a_huge_one_is_not_made() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    let before = switchback.memory("VmRSS");
    let mut raw = Raw::connect(switchback.address);
    // A value of 4,000 bytes goes into the table and is then named by one byte, again and again (RFC 7541 6.1, 6.2.1).
    let mut bytes = block(GET);
    bytes.extend_from_slice(&[0x40, 1, b'x', 127, 0xa1, 0x1e]);
    bytes.extend_from_slice(&[b'v'; 4000]);
    bytes.extend(std::iter::repeat_n(0xbe, 12_000));
    let (first, rest) = bytes.split_at(16_000);
    raw.send(HEADERS, END_STREAM, 1, first).send(CONTINUATION, END_HEADERS, 1, rest);
    let seen = raw.outcome(1);
    assert!(seen.go_away().is_some() || seen.has(HEADERS, 1), "it was refused: {seen:?}");
    assert_eq!(upstream.requests(), 0);
    let grown = switchback.memory("VmRSS").saturating_sub(before);
    assert!(grown < 16 << 20, "16 KB became {grown} bytes");
}

#[test]
fn frames_of_a_client_are_no_lines_of_the_log() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    let mut raw = Raw::connect(switchback.address);
    // Answers to pings that were never sent.
    for _ in 0..100 {
        raw.send(PING, 1, 0, b"12345678");
    }
    raw.request(1, GET, END_STREAM);
    raw.until("an answer", |frame| frame.kind == DATA);
    let said = switchback.stderr();
    assert!(!said.contains("PING"), "{said}");
}

#[test]
fn what_is_no_http2_ends_the_connection() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    for bytes in [
        // A frame that is longer than was agreed.
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(DATA, 0, 1, &[0; 20_000])].concat(),
        // DATA on no stream, and on one that was never opened.
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(DATA, 0, 0, b"a")].concat(),
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(DATA, 0, 9, b"a")].concat(),
        // A stream of an even number is none of a client's.
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 5, 2, &block(GET))].concat(),
        // An index that is in no table.
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 5, 1, &[0xff, 0xff, 0xff])].concat(),
        // Another frame within a block of fields.
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 1, 1, &[]), &frame(PING, 0, 0, b"12345678")]
            .concat(),
    ] {
        println!("{}", bytes[..60.min(bytes.len())].escape_ascii());
        let mut raw = Raw::silent(switchback.address);
        raw.write(&bytes).expect("it takes bytes");
        let seen = raw.rest();
        assert!(seen.go_away().is_none_or(|reason| reason != 0), "{}: {seen:?}", bytes.escape_ascii());
    }
    // What only begins like it is HTTP/1.1 that is malformed, or is read by nobody.
    for bytes in
        [&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], b"PRI * HTTP/2.1\r\n\r\n", b"PRI / HTTP/2.0\r\n\r\n"]
    {
        let mut raw = Raw::silent(switchback.address);
        raw.write(bytes).expect("it takes bytes");
        let mut rest = Vec::new();
        raw.stream.read_to_end(&mut rest).ok();
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", rest.escape_ascii());
    }
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_preface_that_drips_in_is_one() {
    let upstream = Upstream::ok();
    let switchback = Setup::new().start(&upstream);
    let mut raw = Raw::silent(switchback.address);
    let bytes =
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(GET))]
            .concat();
    for byte in bytes {
        raw.write(&[byte]).expect("it takes bytes");
    }
    assert_eq!(raw.until("an answer", |frame| frame.kind == DATA).payload, b"ok");
}

const TIMES: &str = "head_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nwrite_timeout = \"300ms\"\n\
                     keep_alive_timeout = \"700ms\"";

fn hasty(upstream: &Upstream) -> Switchback {
    Setup::new().listener(TIMES).start(upstream)
}

#[test]
fn row_23_who_does_not_end_what_it_began_is_closed() {
    let upstream = Upstream::ok();
    let switchback = hasty(&upstream);
    // Half a preface.
    let mut raw = Raw::silent(switchback.address);
    raw.write(&PREFACE[..20]).expect("it takes bytes");
    assert!(raw.rest().is_over);
    // A block of fields without an end, and one within its frame.
    let mut raw = Raw::connect(switchback.address);
    raw.send(HEADERS, END_STREAM, 1, &block(GET));
    assert_eq!(raw.rest().go_away(), Some(CALM));
    let mut raw = Raw::connect(switchback.address);
    raw.write(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(GET))[..12]).expect("it takes bytes");
    assert_eq!(raw.rest().go_away(), Some(CALM));
    assert_eq!(switchback.metric("switchback_http2_goaways_total{reason=\"slow\"}"), 2.0);
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn row_23_a_body_that_stalls_is_answered_with_408() {
    let upstream = Upstream::ok();
    let switchback = hasty(&upstream);
    let mut raw = Raw::connect(switchback.address);
    raw.request(1, &[&[(":method", "POST")], &GET[1..]].concat(), 0).send(DATA, 0, 1, b"a part");
    let head = raw.until("a head", |frame| frame.kind == HEADERS);
    // A status that is none of the static table's is a literal behind the index of its name.
    assert!(head.payload.windows(3).any(|window| window == b"408") || head.payload[0] != 0x88, "{head:?}");
    raw.until("the reset", |frame| frame.kind == RESET && number(&frame.payload) == 0);
    upstream.wait_all_ended();
}

#[test]
fn row_23_a_client_that_opens_no_window_is_reset() {
    let upstream = Upstream::answering(response(200, &[7; 100_000]));
    let switchback = hasty(&upstream);
    // Windows of 0 and of 10 bytes (SETTINGS_INITIAL_WINDOW_SIZE).
    for window in [0, 10] {
        let mut raw = Raw::with(switchback.address, &[(4, window)]);
        raw.request(1, GET, END_STREAM);
        let reset = raw.until("the reset", |frame| frame.kind == RESET);
        assert_eq!(number(&reset.payload), INTERNAL_ERROR);
        // A response without a body needs no window.
        upstream.wait_all_ended();
    }
}

#[test]
fn row_23_a_client_that_reads_nothing_is_closed() {
    let upstream = Upstream::answering(response(200, &[7; 1 << 20]));
    let switchback = hasty(&upstream);
    // The widest windows that there are, and not a byte is read.
    let mut raw = Raw::with(switchback.address, &[(4, 0x7fff_ffff)]);
    raw.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes());
    for stream in 0..50 {
        raw.request(2 * stream + 1, GET, END_STREAM);
    }
    // In this order: before it is accepted no connection is open either.
    let goaways = "switchback_http2_goaways_total{reason=\"slow\"}";
    wait_until("it was found to be slow", || switchback.metric(goaways) == 1.0);
    wait_until("the connection was closed", || switchback.metric("switchback_connections_open") == 0.0);
    upstream.wait_all_ended();
}

#[test]
fn an_idle_connection_ends_in_order_and_pings_do_not_keep_it() {
    let upstream = Upstream::ok();
    let switchback = hasty(&upstream);
    let mut raw = Raw::connect(switchback.address);
    raw.request(1, GET, END_STREAM);
    raw.until("an answer", |frame| frame.kind == DATA);
    let mut told = None;
    while let Some(next) = raw.read() {
        match next.kind {
            GO_AWAY => told = Some(number(&next.payload[4..])),
            // It asks whether all that was sent before has come.
            PING if next.flags == 0 => raw.write(&frame(PING, 1, 0, &next.payload)).expect("it takes bytes"),
            _ => {}
        }
        // As often as no sound client does, and as seldom as to be no flood.
        thread::sleep(std::time::Duration::from_millis(10));
        raw.write(&frame(PING, 0, 0, b"keep me!")).ok();
    }
    assert_eq!(told, Some(0));
    assert_eq!(switchback.metric("switchback_http2_goaways_total{reason=\"idle\"}"), 1.0);
}

#[test]
fn descriptors_are_kept_for_the_upstream_connections_of_streams() {
    // So few that one connection's streams could use them all.
    let upstream = Upstream::start(|exchange| {
        exchange.body();
        thread::sleep(std::time::Duration::from_millis(100));
        exchange.send(&response(200, b"ok"));
    });
    let switchback = Switchback::start_limited(&Setup::new().toml(&[&upstream]), 160);
    let mut raw = Raw::connect(switchback.address);
    for stream in 0..100 {
        raw.request(2 * stream + 1, GET, END_STREAM);
    }
    let (mut served, mut refused) = (0, 0);
    while served + refused < 100 {
        let next = raw.read().expect("the connection stays");
        match next.kind {
            DATA => served += usize::from(next.payload == b"ok"),
            RESET => {
                assert_eq!(number(&next.payload), 7, "REFUSED_STREAM");
                refused += 1;
            }
            HEADERS => assert_eq!(next.payload[0], 0x88, "{next:?}"),
            _ => {}
        }
    }
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    // The admin API and other clients are served all the while, and after it.
    wait_until("places are free again", || switchback.metric("switchback_http2_streams_open") == 0.0);
    assert_eq!(switchback.client().exchange("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").whole().status, 200);
}
