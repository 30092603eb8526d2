//! What a client says first, as far as somebody asks for it before rustls does.
//!
//! Stands where Envoy has BoringSSL's early callback, and `Filter::parseClientHello` of `tls_inspector.cc`.

/// A record's header: type, version, length.
const RECORD_HEADER: usize = 5;
/// A handshake message's header: type, length.
const MESSAGE_HEADER: usize = 4;
/// As much as is looked at.
pub const MAX_HELLO: usize = 64 * 1024;

/// What was found so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// It is no hello.
    Invalid,
    /// All of it.
    Hello(ClientHello),
}

/// What a client says first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name that it asks for; empty for none.
    pub server_name: String,
    /// Protocols on top, the best first.
    pub alpn: Vec<Vec<u8>>,
    /// Whether it asks for an answer of OCSP.
    pub asks_ocsp: bool,
}

/// Looks at what has come, which may be in several records.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some(header) = rest.get(..RECORD_HEADER) else {
            let begins = rest.iter().zip([22, 3]).all(|(byte, wanted)| *byte == wanted);
            return if begins { Parsed::Incomplete } else { Parsed::Invalid };
        };
        let length = usize::from(header[3]) << 8 | usize::from(header[4]);
        if header[..2] != [22, 3] || length == 0 || length > 16 * 1024 {
            return Parsed::Invalid;
        }
        let end = (RECORD_HEADER + length).min(rest.len());
        message.extend_from_slice(&rest[RECORD_HEADER..end]);
        rest = &rest[end..];
        match whole(&message) {
            Some(Ok(body)) => return hello(body).map_or(Parsed::Invalid, Parsed::Hello),
            Some(Err(())) => return Parsed::Invalid,
            None if rest.is_empty() => return Parsed::Incomplete,
            None => {}
        }
    }
}

/// The hello without its header, once it is all there.
fn whole(message: &[u8]) -> Option<Result<&[u8], ()>> {
    if message.first().is_some_and(|kind| *kind != 1) {
        return Some(Err(()));
    }
    let header = message.get(..MESSAGE_HEADER)?;
    let length = usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    if length > MAX_HELLO {
        return Some(Err(()));
    }
    message.get(MESSAGE_HEADER..MESSAGE_HEADER + length).map(Ok)
}

/// Reads pieces that have their length in front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from(bytes[0]) << 8 | u16::from(bytes[1]))
    }

    fn of_u8(&mut self) -> Option<&'a [u8]> {
        let n = self.u8()?;
        self.take(n.into())
    }

    fn of_u16(&mut self) -> Option<&'a [u8]> {
        let n = self.u16()?;
        self.take(n.into())
    }
}

fn hello(body: &[u8]) -> Option<ClientHello> {
    let mut r = Reader(body);
    let mut found = ClientHello::default();
    // The version, the random bytes, the session, ciphers and ways to compress.
    r.take(2 + 32)?;
    r.of_u8()?;
    r.of_u16()?;
    r.of_u8()?;
    if r.0.is_empty() {
        return Some(found);
    }
    let mut extensions = Reader(r.of_u16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut content = Reader(extensions.of_u16()?);
        match kind {
            0 => {
                let mut names = Reader(content.of_u16()?);
                let is_host = names.u8()? == 0;
                let name = names.of_u16()?;
                if is_host {
                    found.server_name = String::from_utf8_lossy(name).to_ascii_lowercase();
                }
            }
            5 => found.asks_ocsp = content.u8()? == 1,
            16 => {
                let mut protocols = Reader(content.of_u16()?);
                while !protocols.0.is_empty() {
                    found.alpn.push(protocols.of_u8()?.to_vec());
                }
            }
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::ring;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;

    fn bytes(alpn: &[&str]) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("A.test").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_hello_is_understood_when_all_of_it_is_there() {
        let bytes = bytes(&["h2", "http/1.1"]);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Parsed::Incomplete, "{length}");
        }
        let Parsed::Hello(hello) = parse(&bytes) else { panic!("no hello") };
        assert_eq!(hello.server_name, "a.test");
        assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(hello.asks_ocsp);
    }

    #[test]
    fn one_in_many_records_is_the_same() {
        let whole = bytes(&["h2"]);
        let pieces = whole[RECORD_HEADER..].chunks(3).flat_map(|piece| {
            let header = [22, 3, 1, 0, piece.len() as u8];
            header.into_iter().chain(piece.iter().copied())
        });
        assert_eq!(parse(&pieces.collect::<Vec<u8>>()), parse(&whole));
    }

    #[test]
    fn what_is_none_is_refused_as_soon_as_it_shows() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            b"\x16\x02",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x00\x01\x02",
            b"\x16\x03\x01\xff\xff",
        ] {
            assert_eq!(parse(bytes), Parsed::Invalid, "{bytes:?}");
        }
        let mut cut = bytes(&[]);
        // The length of the list of ciphers is too large.
        cut[RECORD_HEADER + MESSAGE_HEADER + 34 + 33] = 0xff;
        assert_eq!(parse(&cut), Parsed::Invalid);
    }
}
