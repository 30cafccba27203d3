//! How a line of the access log looks: its fields' names, and templates with `{field}` in them.
//!
//! Values only: `config` parses them out of the file and `telemetry` writes lines by them.

use std::path::PathBuf;

/// What the file says of the access log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLogSettings {
    /// The file; `-` is the standard output.
    pub path: PathBuf,
    /// How a line looks.
    pub format: AccessLogFormat,
    /// The share of requests that is logged, above 0 and at most 1.
    pub sample: f64,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// Text with `{field}` in it, parsed.
    Template(Vec<LogPiece>),
}

/// A piece of an access log template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPiece {
    /// Copied as it is.
    Text(Box<str>),
    /// Replaced by a field of the record.
    Field(LogField),
}

macro_rules! log_fields {
    ($($field:ident $name:literal,)*) => {
        /// A field of the access log. The names in JSON and in templates are these in snake case.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the plain meaning of its name; docs/access-log.md has units")]
        pub enum LogField {
            $($field,)*
        }

        impl LogField {
            /// Every field, in the order in which JSON lines have them.
            pub const ALL: &[Self] = &[$(Self::$field,)*];

            /// The name in JSON and in templates.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name,)*
                }
            }
        }
    };
}

log_fields! {
    Time "time",
    Listener "listener",
    Client "client",
    Method "method",
    Scheme "scheme",
    Host "host",
    Path "path",
    Query "query",
    Version "version",
    Status "status",
    Route "route",
    Split "split",
    Pool "pool",
    Endpoint "endpoint",
    Attempts "attempts",
    Generation "generation",
    RequestId "request_id",
    UserAgent "user_agent",
    Referer "referer",
    BytesReceived "bytes_received",
    BytesSent "bytes_sent",
    FirstByteSeconds "first_byte_seconds",
    DurationSeconds "duration_seconds",
    Outcome "outcome",
    Timeout "timeout",
    TlsVersion "tls_version",
    TlsCipher "tls_cipher",
    Sni "sni",
    ClientSubject "client_subject",
    ClientNames "client_names",
    ClientFingerprint "client_fingerprint",
}

impl LogField {
    /// Whether only a template that names it has it: JSON lines would grow for everybody.
    pub fn is_by_name_alone(self) -> bool {
        matches!(
            self,
            Self::TlsVersion
                | Self::TlsCipher
                | Self::Sni
                | Self::ClientSubject
                | Self::ClientNames
                | Self::ClientFingerprint
        )
    }

    /// The field of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A name in braces that is no field.
    #[error("there is no field {{{0}}}")]
    UnknownField(String),
    /// A brace with no partner.
    #[error("a brace has no partner; a literal one is written twice: {{{{ or }}}}")]
    LoneBrace,
    /// Every line would be the same.
    #[error("the template names no field")]
    NoField,
    /// A line break or another control character but a tab.
    #[error("a template is one line without control characters")]
    ControlCharacter,
}

impl LogPiece {
    /// Parses a template: text, `{field}`, and `{{` or `}}` for a brace.
    pub fn parse_template(text: &str) -> Result<Vec<Self>, InvalidTemplate> {
        if text.chars().any(|character| character.is_control() && character != '\t') {
            return Err(InvalidTemplate::ControlCharacter);
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            literal.push_str(&rest[..brace]);
            rest = &rest[brace..];
            if let Some(after) = rest.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else {
                let inside = rest.strip_prefix('{').ok_or(InvalidTemplate::LoneBrace)?;
                let (name, after) = inside.split_once('}').ok_or(InvalidTemplate::LoneBrace)?;
                let field =
                    LogField::named(name).ok_or_else(|| InvalidTemplate::UnknownField(name.into()))?;
                if !literal.is_empty() {
                    pieces.push(Self::Text(std::mem::take(&mut literal).into()));
                }
                pieces.push(Self::Field(field));
                rest = after;
            }
        }
        literal.push_str(rest);
        if pieces.is_empty() {
            return Err(InvalidTemplate::NoField);
        }
        if !literal.is_empty() {
            pieces.push(Self::Text(literal.into()));
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_fields() {
        let field = LogPiece::Field;
        let text = |text: &str| LogPiece::Text(text.into());
        assert_eq!(
            LogPiece::parse_template("{client} \"{method}\" {{{status}}}!").unwrap(),
            [
                field(LogField::Client),
                text(" \""),
                field(LogField::Method),
                text("\" {"),
                field(LogField::Status),
                text("}!"),
            ]
        );
        for (bad, why) in [
            ("{stauts}", InvalidTemplate::UnknownField("stauts".into())),
            ("{status", InvalidTemplate::LoneBrace),
            ("status}", InvalidTemplate::LoneBrace),
            ("{", InvalidTemplate::LoneBrace),
            ("{status}\n", InvalidTemplate::ControlCharacter),
            ("status", InvalidTemplate::NoField),
            ("", InvalidTemplate::NoField),
        ] {
            assert_eq!(LogPiece::parse_template(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn every_field_is_found_by_its_name() {
        for field in LogField::ALL {
            assert_eq!(LogField::named(field.name()), Some(*field));
        }
    }
}
