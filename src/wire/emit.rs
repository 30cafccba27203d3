//! Writes canonical heads.

use super::fields::Field;

/// Writes one field line.
#[inline]
pub fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes those field lines that pass. Neighbours that came in canonical form go out in one copy.
#[inline]
pub fn fields(out: &mut Vec<u8>, buffer: &[u8], lines: &[Field], passes: impl Fn(&Field) -> bool) {
    let mut run = 0..0;
    for field in lines {
        if !passes(field) {
            continue;
        }
        let (start, end) = (field.name.start as usize, field.value.end as usize);
        let is_canonical = field.value.start == field.name.end + 2
            && buffer[field.name.end as usize + 1] == b' '
            && buffer[end] == b'\r';
        if !is_canonical {
            out.extend_from_slice(&buffer[run]);
            line(out, field.name.of(buffer), field.value.of(buffer));
            run = 0..0;
        } else if run.end == start {
            run.end = end + 2;
        } else {
            out.extend_from_slice(&buffer[run]);
            run = start..end + 2;
        }
    }
    out.extend_from_slice(&buffer[run]);
}

/// Writes a number in decimal.
#[inline]
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes `Content-Length`.
#[inline]
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The field line of a chunked body.
pub const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        fields::{Known, LIMITS},
        request::RequestHead,
    };

    #[test]
    fn fields_go_out_in_one_form_and_in_order() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nX:2\r\nB: 3 \r\nC:  4\r\nD: 5\r\nTE: x\r\nE:\t6\r\nF:\r\nG: \r\n\r\n";
        let mut head = RequestHead::default();
        head.parse(text, &LIMITS).unwrap();
        let mut out = Vec::new();
        fields(&mut out, text, &head.fields.lines, |field| field.known != Known::Te);
        let expected = "Host: a\r\nA: 1\r\nX: 2\r\nB: 3\r\nC: 4\r\nD: 5\r\nE: 6\r\nF: \r\nG: \r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn numbers() {
        for number in [0, 7, 10, 65535, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
