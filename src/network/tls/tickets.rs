//! Sessions that go on: tickets of servers, and what clients keep.
//!
//! Stands where Envoy has `ServerContextImpl::sessionTicketProcess` and the deque of `ClientContextImpl`. The 80 bytes of a
//! configured key are used as Envoy uses them (a name, and what encrypts), but what is inside a ticket is rustls', so that
//! legate does not go on with what Envoy has begun.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::server::ProducesTickets;

use super::config::{Secret, TlsSessionTicketKeys};
use crate::config::ConfigError;

const KEY_LENGTH: usize = 80;
const NAME_LENGTH: usize = 16;

/// How long a ticket may be used where nothing is said, in seconds.
pub const DEFAULT_LIFETIME: u32 = 7200;

struct TicketKey {
    name: [u8; NAME_LENGTH],
    key: LessSafeKey,
}

/// Makes tickets with the first of its keys, and reads those of all.
pub struct TicketKeys {
    keys: Vec<TicketKey>,
    /// What a session belongs to: it does not go on under other rules.
    context: Vec<u8>,
    lifetime: u32,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

impl TicketKeys {
    /// With the keys of a configuration.
    ///
    /// # Errors
    /// One cannot be read or is not as long as it has to be.
    pub fn configured(
        config: &TlsSessionTicketKeys,
        context: Vec<u8>,
        lifetime: u32,
    ) -> Result<Arc<dyn ProducesTickets>, ConfigError> {
        let read = |(i, source): (usize, &Secret)| {
            let refused = |message| ConfigError::new(format!("keys[{i}]"), message);
            let bytes = source.0.contents().map_err(refused)?;
            ticket_key(&bytes).ok_or_else(|| {
                refused(format!(
                    "Incorrect TLS session ticket key length. Length {}, expected length {KEY_LENGTH}.",
                    bytes.len()
                ))
            })
        };
        let keys: Result<Vec<_>, _> = config.keys.iter().enumerate().map(read).collect();
        Ok(Arc::new(TicketKeys { keys: keys?, context, lifetime }))
    }

    /// With a key of its own.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random(context: Vec<u8>, lifetime: u32) -> Result<Arc<dyn ProducesTickets>, ConfigError> {
        let mut bytes = [0; KEY_LENGTH];
        let filled = SystemRandom::new().fill(&mut bytes).ok();
        let key = filled.and_then(|()| ticket_key(&bytes));
        let key = key.ok_or_else(|| ConfigError::document("no random bytes for session tickets"))?;
        Ok(Arc::new(TicketKeys { keys: vec![key], context, lifetime }))
    }
}

fn ticket_key(bytes: &[u8]) -> Option<TicketKey> {
    let bytes: &[u8; KEY_LENGTH] = bytes.try_into().ok()?;
    let name = bytes[..NAME_LENGTH].try_into().ok()?;
    let key = UnboundKey::new(&AES_256_GCM, &bytes[KEY_LENGTH - 32..]).ok()?;
    Some(TicketKey { name, key: LessSafeKey::new(key) })
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let nonce_of_key = Nonce::assume_unique_for_key(nonce);
        key.key.seal_in_place_append_tag(nonce_of_key, Aad::from(&self.context), &mut sealed).ok()?;
        Some([&key.name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_at_checked(NAME_LENGTH)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let key = self.keys.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let length = key.key.open_in_place(nonce, Aad::from(&self.context), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

/// What a client keeps: so many sessions, the newest first.
#[derive(Debug)]
pub struct SessionKeys {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tls12: VecDeque<(ServerName<'static>, Tls12ClientSessionValue)>,
    tls13: VecDeque<(ServerName<'static>, Tls13ClientSessionValue)>,
}

impl SessionKeys {
    /// Keeps `most` of each version.
    pub fn new(most: usize) -> Self {
        SessionKeys { most, kept: Mutex::default() }
    }

    fn with<R: Default>(&self, f: impl FnOnce(&mut Kept) -> R) -> R {
        self.kept.lock().map(|mut kept| f(&mut kept)).unwrap_or_default()
    }
}

impl ClientSessionStore for SessionKeys {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(|kept| {
            kept.tls12.push_front((server_name, value));
            kept.tls12.truncate(self.most);
        });
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|kept| {
            kept.tls12.iter().find(|(name, _)| name == server_name).map(|(_, value)| value.clone())
        })
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.with(|kept| kept.tls12.retain(|(name, _)| name != server_name));
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|kept| {
            kept.tls13.push_front((server_name, value));
            kept.tls13.truncate(self.most);
        });
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(|kept| {
            let place = kept.tls13.iter().position(|(name, _)| name == server_name)?;
            kept.tls13.remove(place).map(|(_, value)| value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataSource;
    use crate::config::core::Bytes;

    fn keys(numbers: &[u8]) -> TlsSessionTicketKeys {
        let key = |number: &u8| Secret(DataSource::InlineBytes(Bytes(vec![*number; KEY_LENGTH])));
        TlsSessionTicketKeys { keys: numbers.iter().map(key).collect() }
    }

    #[test]
    fn the_first_key_makes_tickets_and_all_read_them() {
        let context = || b"context".to_vec();
        let old = TicketKeys::configured(&keys(&[1]), context(), 10).unwrap();
        let new = TicketKeys::configured(&keys(&[2, 1]), context(), 10).unwrap();
        let ticket = old.encrypt(b"session").unwrap();
        assert_eq!(new.decrypt(&ticket).unwrap(), b"session");
        let ticket = new.encrypt(b"session").unwrap();
        assert_eq!(old.decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_is_of_no_use_elsewhere_or_when_it_was_changed() {
        let here = TicketKeys::configured(&keys(&[1]), b"here".to_vec(), 10).unwrap();
        let there = TicketKeys::configured(&keys(&[1]), b"there".to_vec(), 10).unwrap();
        let mut ticket = here.encrypt(b"session").unwrap();
        assert_eq!(there.decrypt(&ticket), None);
        *ticket.last_mut().unwrap() ^= 1;
        assert_eq!(here.decrypt(&ticket), None);
        assert_eq!(here.decrypt(b"short"), None);
    }

    #[test]
    fn a_key_has_80_bytes() {
        let config = TlsSessionTicketKeys { keys: vec![Secret(DataSource::InlineString("short".into()))] };
        let error = TicketKeys::configured(&config, Vec::new(), 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "keys[0]: Incorrect TLS session ticket key length. Length 5, expected length 80."
        );
    }
}
