//! Messages as the harness reads them: strictly, and by its own rules alone.

use super::wire::Broken;

/// A start line with its fields, all exactly as they came (bytes above ASCII as Latin-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The first line, without its end.
    pub start: String,
    /// The fields in their order: name as it came, value without white space around it.
    pub fields: Vec<(String, String)>,
    /// The bytes themselves, with the empty line at the end.
    pub raw: Vec<u8>,
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A body that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// The fields behind a chunked body.
    pub trailers: Vec<(String, String)>,
    /// The sizes of the chunks, if it was chunked.
    pub chunks: Vec<usize>,
}

/// A request as an upstream received it.
#[derive(Debug, Clone)]
pub struct Message {
    pub head: Head,
    pub framing: Framing,
    pub body: Body,
    /// Why the body did not come to its end, if so.
    pub broken: Option<Broken>,
    /// The connection that it came on, counted from 0.
    pub connection: usize,
}

impl Head {
    /// Reads a whole head, with the empty line at its end, by the strict grammar.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let lines = text.strip_suffix("\r\n\r\n").ok_or("no empty line at the end")?;
        let mut lines = lines.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        if start.contains(|character: char| character.is_ascii_control()) || start.is_empty() {
            return Err(format!("control character in, or empty, start line {start:?}"));
        }
        let fields = lines.map(field).collect::<Result<_, _>>()?;
        Ok(Self { start, fields, raw: bytes.to_vec() })
    }

    /// All values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }

    /// The value of a field that must not stand twice.
    pub fn one(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} stands {} times in {self:?}", values.len());
        values.first().copied()
    }

    /// The members of a list-valued field, over all its lines, in lower case.
    pub fn list(&self, name: &str) -> Vec<String> {
        let members = self.all(name).join(",");
        let members = members.split(',').map(|member| member.trim().to_ascii_lowercase());
        members.filter(|member| !member.is_empty()).collect()
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The framing of a request body; anything that two readers could take differently is an error.
    pub fn request_framing(&self) -> Result<Framing, String> {
        let parts: Vec<_> = self.start.split(' ').collect();
        if parts.len() != 3 || parts[2] != "HTTP/1.1" {
            return Err(format!("not a canonical request line: {:?}", self.start));
        }
        Ok(self.declared_framing()?.unwrap_or(Framing::None))
    }

    /// The framing of a response to a request of this method.
    pub fn response_framing(&self, method: &str) -> Result<Framing, String> {
        let status = self.status()?;
        let declared = self.declared_framing()?;
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(Framing::None);
        }
        Ok(declared.unwrap_or(Framing::UntilClose))
    }

    /// The status of a response.
    pub fn status(&self) -> Result<u16, String> {
        let malformed = || format!("not a status line: {:?}", self.start);
        let mut parts = self.start.splitn(3, ' ');
        let version = parts.next().unwrap_or_default();
        let status = parts.next().unwrap_or_default();
        if version != "HTTP/1.1" || status.len() != 3 || parts.next().is_none() {
            return Err(malformed());
        }
        status.parse().map_err(|_| malformed())
    }

    fn declared_framing(&self) -> Result<Option<Framing>, String> {
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(None),
            ([], ["chunked"]) => Ok(Some(Framing::Chunked)),
            ([length], []) => canonical_decimal(length).map(|length| Some(Framing::Length(length))),
            _ => Err(format!("ambiguous framing: lengths {lengths:?}, codings {codings:?}")),
        }
    }
}

impl Message {
    /// The head and the decoded body in one line, for failures.
    pub fn shown(&self) -> String {
        format!("{:?} with {} bytes of body, {:?}", self.head, self.body.bytes.len(), self.broken)
    }
}

/// All values of a field in a list of fields.
pub fn all<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let named = fields.iter().filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

/// Reads one field line, without its end.
pub fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
    let is_token =
        |character: char| character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err(format!("not a field name: {name:?} in {line:?}"));
    }
    if value.chars().any(|character| character.is_ascii_control() && character != '\t') {
        return Err(format!("control character in the value of {line:?}"));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// Reads a chunk's size, in the one form that Switchback may write: lower case, no leading zero, no extension.
pub fn canonical_chunk_size(line: &str) -> Result<usize, String> {
    let is_canonical = line.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && !line.is_empty()
        && (line == "0" || !line.starts_with('0'));
    if !is_canonical {
        return Err(format!("not a canonical chunk head: {line:?}"));
    }
    usize::from_str_radix(line, 16).map_err(|_| format!("chunk size {line:?} is too large"))
}

fn canonical_decimal(text: &str) -> Result<u64, String> {
    let number: u64 = text.parse().map_err(|_| format!("not a length: {text:?}"))?;
    if number.to_string() != text {
        return Err(format!("not a canonical length: {text:?}"));
    }
    Ok(number)
}
