//! Requests and responses made of plain and of suspicious parts, and mutations of them.

use fastrand::Rng;

const METHODS: &[&str] = &["GET", "POST", "HEAD", "OPTIONS", "PUT", "get", "M-SEARCH", "G(T", ""];
const TARGETS: &[&str] = &[
    "/",
    "/a/b?c=d",
    "*",
    "/%2e%2e/x",
    "/a/../b",
    "http://a.example/x",
    "a.example:80",
    "/\u{e9}",
    "/a b",
    "/#f",
    "//",
    "/\\",
];
const VERSIONS: &[&str] =
    &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", "HTTP/1.2", ""];
const ENDS: &[&str] =
    &["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\n\r\n"];
const NAMES: &[&str] = &[
    "Host",
    "Content-Length",
    "content-length",
    "Transfer-Encoding",
    "transfer-encoding",
    "Connection",
    "X-A",
    "x_a",
    "Cookie",
    "TE",
    "Trailer",
    "Expect",
    "Upgrade",
    "Content-Length ",
    " X",
    "X(",
    "",
    "Forwarded",
    "X-Forwarded-For",
    "Via",
    "Keep-Alive",
];
const VALUES: &[&str] = &[
    "a.example",
    "5",
    "0",
    "3",
    "chunked",
    "Chunked",
    "gzip, chunked",
    "identity",
    "5, 5",
    "+5",
    "0x5",
    "close",
    "keep-alive",
    "x",
    "",
    " x ",
    "\tx\t",
    "a\u{b}b",
    "a\0b",
    "a\rb",
    "caf\u{e9}",
    "100-continue",
    "websocket",
    "Host",
    "Content-Length",
    "trailers",
    "18446744073709551615",
    "18446744073709551616",
    "007",
];
const COLONS: &[&str] = &[": ", ": ", ": ", ": ", ":", ":\t", " : ", "  ", ":  "];
const CHUNKS: &[&str] = &[
    "5\r\nhello\r\n",
    "3\r\nabc\r\n",
    "A\r\n0123456789\r\n",
    "a\r\n0123456789\r\n",
    "003\r\nabc\r\n",
    "3;x=y\r\nabc\r\n",
    "3;x=\"y\"\r\nabc\r\n",
    "3 \r\nabc\r\n",
    "3 ;x\r\nabc\r\n",
    "0x3\r\nabc\r\n",
    "3\nabc\r\n",
    "3\r\nabc\n",
    "3\r\nabcd\r\n",
    "+3\r\nabc\r\n",
    "3;\n\r\nabc\r\n",
    "ffffffffffffffff\r\nabc\r\n",
    "10000000000000003\r\nabc\r\n",
];
const LAST: &[&str] = &[
    "0\r\n\r\n",
    "0\r\n\r\n",
    "0\r\nX-T: v\r\n\r\n",
    "00\r\n\r\n",
    "0;x\r\n\r\n",
    "0\r\n",
    "0\n\n",
    "0\r\nX : v\r\n\r\n",
    "0\r\n X: v\r\n\r\n",
    "",
];
/// Bytes that parsers disagree about.
const ODD: &[u8] = b"\r\n \t\0\x0b\x0c\x7f\x80\xff:;,_\"=+-0/#\\%";

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

/// A request: mostly well-formed, with one or two odd parts, or odd throughout.
pub fn request(rng: &mut Rng) -> Vec<u8> {
    let odd = rng.u8(..4) == 0;
    let part = |rng: &mut Rng, from: &[&'static str]| {
        if odd || rng.u8(..12) == 0 { pick(rng, from) } else { from[0] }
    };
    let mut text = String::new();
    for piece in [part(rng, METHODS), " ", part(rng, TARGETS), " ", part(rng, VERSIONS), part(rng, ENDS)] {
        text.push_str(piece);
    }
    if rng.u8(..10) > 0 {
        text.push_str("Host: a.example\r\n");
    }
    let framing = rng.u8(..4);
    match framing {
        0 => text.push_str("Transfer-Encoding: chunked\r\n"),
        1 => text.push_str("Content-Length: 5\r\n"),
        _ => {}
    }
    for _ in 0..rng.u8(..4) {
        for piece in [pick(rng, NAMES), part(rng, COLONS), pick(rng, VALUES), part(rng, ENDS)] {
            text.push_str(piece);
        }
    }
    text.push_str(part(rng, ENDS));
    text.push_str(&body(rng, framing == 0));
    mutated(rng, latin1(&text))
}

/// A response, made in the same way.
pub fn response(rng: &mut Rng) -> Vec<u8> {
    const LINES: &[&str] = &[
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 ",
        "HTTP/1.1 200",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 404 Not Found",
        "HTTP/1.1 204 None",
        "HTTP/1.1 100 Continue",
        "HTTP/1.1 999 \u{e9}",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1 200\tOK",
    ];
    let mut text = String::new();
    text.push_str(pick(rng, LINES));
    text.push_str("\r\n");
    for _ in 0..rng.u8(..5) {
        for piece in [pick(rng, NAMES), pick(rng, COLONS), pick(rng, VALUES), pick(rng, ENDS)] {
            text.push_str(piece);
        }
    }
    text.push_str("\r\n");
    text.push_str(&body(rng, true));
    mutated(rng, latin1(&text))
}

/// A body, chunked or of five bytes, and sometimes what follows it.
pub fn body(rng: &mut Rng, is_chunked: bool) -> String {
    let mut text = String::new();
    if is_chunked {
        let odd = rng.u8(..3) == 0;
        for _ in 0..rng.u8(..4) {
            text.push_str(if odd { pick(rng, CHUNKS) } else { CHUNKS[rng.usize(..7)] });
        }
        text.push_str(if odd { pick(rng, LAST) } else { LAST[0] });
    } else {
        text.push_str("hello");
    }
    if rng.u8(..8) == 0 {
        text.push_str("GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n");
    }
    text
}

/// Up to three small damages.
pub fn mutated(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    if rng.bool() {
        return bytes;
    }
    for _ in 0..rng.u8(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..5) {
            0 => bytes[at] = ODD[rng.usize(..ODD.len())],
            1 => bytes.insert(at, ODD[rng.usize(..ODD.len())]),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] ^= 1 << rng.u8(..8),
            _ => {
                let end = (at + rng.usize(..12)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = rng.usize(..=bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|character| character as u8).collect()
}
