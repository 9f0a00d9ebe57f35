//! [`Format`] and the head of a file: format, version, checksum and length.

use std::ops::Range;
use std::path::Path;

use super::FileError;

/// What a file holds, and the version of its format.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The name at the head of the file, for example `burn-sfp pruning plan`.
    pub name: &'static str,
    /// What it holds, for errors: `a pruning plan`.
    pub what: &'static str,
    /// The version that this build writes and reads.
    pub version: u32,
    /// What to do about a file of another version.
    pub advice: &'static str,
}

/// The digits of a checksum that is not known yet. The checksum of a file is taken with these in place of its own digits.
pub(super) const UNKNOWN: &str = "00000000";

impl Format {
    /// The error of a file of another version.
    pub fn other_version(&self, path: &Path, found: u64) -> FileError {
        let &Self { what, version: expected, advice, .. } = self;
        FileError::Version { path: path.into(), what, found, expected, advice }
    }

    /// The head of a JSON file, up to its content.
    pub(super) fn json_head(&self, checksum: &str, bytes: u64) -> String {
        let (name, version) = (self.name, self.version);
        format!(
            "{{\"format\":\"{name}\",\"version\":{version},\"checksum\":\"{checksum}\",\"bytes\":{bytes},\"content\":"
        )
    }

    /// The metadata of a safetensors file, whose values are strings: the first entry of its header, with the brace before it.
    /// `bytes` is the length of the data behind the header.
    pub fn tensors_head(&self, checksum: &str, bytes: u64) -> String {
        let (name, version) = (self.name, self.version);
        format!(
            "{{\"__metadata__\":{{\"format\":\"{name}\",\"version\":\"{version}\",\"checksum\":\"{checksum}\",\
             \"bytes\":\"{bytes}\"}}"
        )
    }
}

/// The head of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub format: String,
    pub version: u64,
    /// Where the eight digits of the checksum are.
    pub checksum: Range<usize>,
    /// Where the content begins.
    pub start: u64,
    /// Bytes of the content.
    pub bytes: u64,
}

impl Head {
    /// Longest head of a file up to its content, or of a safetensors file up to the end of the metadata.
    pub const LONGEST: usize = 512;

    /// Parses the first bytes of a file; `None` where this library did not write them.
    pub fn parse(first: &[u8]) -> Option<Self> {
        let mut cursor = Cursor { bytes: first, at: 0 };
        if cursor.skip("{\"format\":\"").is_some() {
            let (format, version, checksum, bytes) = cursor.fields("")?;
            cursor.skip(",\"content\":")?;
            return Some(Self { format, version, checksum, start: cursor.at as u64, bytes });
        }
        // A safetensors file begins with the length of its header.
        let header = u64::from_le_bytes(*first.first_chunk()?);
        cursor.at = 8;
        cursor.skip("{\"__metadata__\":{\"format\":\"")?;
        let (format, version, checksum, bytes) = cursor.fields("\"")?;
        cursor.skip("}")?;
        Some(Self { format, version, checksum, start: header.checked_add(8)?, bytes })
    }

    /// The version of a JSON file of before there were heads; `None` of anything else.
    pub fn old_version(first: &[u8]) -> Option<u64> {
        let mut cursor = Cursor { bytes: first, at: 0 };
        cursor.skip("{\"version\":")?;
        let version = cursor.number()?;
        cursor.skip(",").map(|()| version)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn skip(&mut self, text: &str) -> Option<()> {
        self.bytes.get(self.at..)?.strip_prefix(text.as_bytes())?;
        self.at += text.len();
        Some(())
    }

    /// The text up to a quotation mark.
    fn text(&mut self) -> Option<String> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().position(|&byte| byte == b'"')?;
        self.at += length + 1;
        String::from_utf8(rest[..length].to_vec()).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += length;
        std::str::from_utf8(&rest[..length]).ok()?.parse().ok()
    }

    /// Name, version, place of the checksum and length, from within the name on. Numbers are in `quotes`.
    fn fields(&mut self, quotes: &str) -> Option<(String, u64, Range<usize>, u64)> {
        let format = self.text()?;
        self.skip(",\"version\":")?;
        self.skip(quotes)?;
        let version = self.number()?;
        self.skip(quotes)?;
        self.skip(",\"checksum\":\"")?;
        let checksum = self.at..self.at + UNKNOWN.len();
        self.at = checksum.end;
        self.skip("\",\"bytes\":")?;
        self.skip(quotes)?;
        let bytes = self.number()?;
        self.skip(quotes)?;
        Some((format, version, checksum, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back() {
        let format = Format { name: "burn-sfp test", what: "a test", version: 7, advice: "test again" };
        let json = format.json_head("0123abcd", 42);
        let head = Head::parse(json.as_bytes()).unwrap();
        assert_eq!((head.format.as_str(), head.version, head.bytes), ("burn-sfp test", 7, 42));
        assert_eq!((&json[head.checksum], head.start), ("0123abcd", json.len() as u64));
        assert!(json.len() < Head::LONGEST && Head::parse(&json.as_bytes()[..json.len() - 1]).is_none());

        let mut tensors = 100_u64.to_le_bytes().to_vec();
        tensors.extend(format.tensors_head("0123abcd", 42).as_bytes());
        let head = Head::parse(&tensors).unwrap();
        assert_eq!((head.start, head.bytes, &tensors[head.checksum]), (108, 42, b"0123abcd".as_slice()));
        assert!(Head::parse(b"{\"name\":1}").is_none() && Head::parse(b"").is_none());
        assert_eq!(
            (Head::old_version(b"{\"version\":2,\"a\""), Head::old_version(b"{\"version\":\"2\"")),
            (Some(2), None)
        );
    }
}
