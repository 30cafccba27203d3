//! JSON pointers (RFC 6901) that cost nothing until one is shown.

use std::fmt;

/// The way from the root of the file to a value. It lives on the stack of whoever walks the file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pointer<'a> {
    Root,
    Key(&'a Pointer<'a>, &'a str),
    Index(&'a Pointer<'a>, usize),
}

impl<'a> Pointer<'a> {
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    pub(super) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(parent, key) => write!(f, "{parent}/{}", key.replace('~', "~0").replace('/', "~1")),
            Self::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_its_separator() {
        let root = Pointer::Root;
        let (pool, endpoints);
        pool = root.key("pool");
        endpoints = pool.key("a/b~c");
        assert_eq!(endpoints.index(3).to_string(), "/pool/a~1b~0c/3");
        assert_eq!(root.to_string(), "");
    }
}
