//! A connection that carries many streams is not treated as one that carries one.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::conn_manager::DrainState;
use super::fixture::{Fixture, PlayedEncoder};
use crate::buffer::Buffer;
use crate::http::{CodecError, Connection, Protocol, ServerConnection, ServerConnectionCallbacks};

/// A codec that only says what it is told.
struct PlayedCodec {
    protocol: Protocol,
    told: RefCell<Vec<&'static str>>,
}

impl PlayedCodec {
    fn new(protocol: Protocol) -> Rc<Self> {
        Rc::new(PlayedCodec { protocol, told: RefCell::default() })
    }
}

impl Connection for PlayedCodec {
    fn dispatch(&self, data: &mut Buffer) -> Result<(), CodecError> {
        data.clear();
        Ok(())
    }

    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn go_away(&self) {
        self.told.borrow_mut().push("go away");
    }

    fn shutdown_notice(&self) {
        self.told.borrow_mut().push("notice");
    }

    fn on_underlying_connection_above_write_buffer_high_watermark(&self) {}

    fn on_underlying_connection_below_write_buffer_low_watermark(&self) {}
}

impl ServerConnection for PlayedCodec {}

#[test]
fn a_stream_given_up_does_not_close_its_connection() {
    for (protocol, expected) in
        [(Protocol::Http11, DrainState::Closing), (Protocol::Http2, DrainState::NotDraining)]
    {
        let fixture = Fixture::new();
        let manager = fixture.manager();
        manager.adopt_codec(PlayedCodec::new(protocol));
        Fixture::script(&["H:reply,stop", ""]);
        let decoder = manager.new_stream(Rc::new(PlayedEncoder::new(0)));
        Fixture::step(&decoder, "H");
        assert_eq!(manager.drain_state.get(), expected, "{protocol:?}");
    }
}

#[test]
fn the_codec_hears_of_a_drain() {
    let fixture = Fixture::new();
    let (manager, codec) = (fixture.manager(), PlayedCodec::new(Protocol::Http2));
    manager.adopt_codec(codec.clone());
    manager.start_drain_sequence();
    assert_eq!(*codec.told.borrow(), ["notice"]);
    manager.on_drain_timeout();
    assert_eq!(*codec.told.borrow(), ["notice", "go away"]);
}
