//! Streams: resets, watermarks, reading stopped and resumed.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::fixture::*;
use crate::buffer::Buffer;
use crate::http::codec_helper::StreamCallbackHelper;
use crate::http::http1::Http1Settings;
use crate::http::{Connection, StreamCallbacks, StreamResetReason};

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// More than the kernel takes off a writer's hands.
const MUCH: usize = 4 * 1024 * 1024;

#[test]
fn a_request_that_is_reset_tells_its_listeners_once() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    server.feed(POST);
    let encoder = server.encoder();
    let (one, two, gone) = (Watcher::on(&*encoder), Watcher::on(&*encoder), Watcher::on(&*encoder));
    encoder.stream().remove_callbacks(&gone.as_callbacks());
    encoder.stream().reset_stream(StreamResetReason::LocalReset);
    encoder.stream().reset_stream(StreamResetReason::ConnectionTermination);
    assert_eq!(one.log(), ["reset: local reset"]);
    assert_eq!(two.log(), ["reset: local reset"]);
    assert!(gone.log().is_empty());
    // The rest of the message goes nowhere, and nothing comes of requests behind it.
    server.log();
    server.feed(format!("body{GET}"));
    assert!(server.log().is_empty());
}

#[test]
fn a_request_answered_too_early_can_still_be_reset() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    server.feed(POST);
    let encoder = server.encoder();
    let watcher = Watcher::on(&*encoder);
    encoder.encode_headers(&head(&[(":status", "200")]), true);
    assert_eq!(server.link.output(), EMPTY);
    encoder.stream().reset_stream(StreamResetReason::ConnectionTermination);
    assert_eq!(watcher.log(), ["reset: connection termination"]);
}

#[test]
fn the_rest_of_a_request_answered_too_early_is_passed_on() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    server.feed(POST);
    server.encoder().encode_headers(&head(&[(":status", "200")]), true);
    server.log();
    server.answer_nothing();
    server.feed("body");
    assert_eq!(server.log(), ["data body", "end"]);
}

#[test]
fn a_response_that_is_reset_tells_its_listeners_once() {
    for so_far in ["", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx"] {
        let client = Client::new(LIMITS, false);
        let encoder = client.request("GET");
        let watcher = Watcher::on(&*encoder);
        client.feed(so_far);
        client.log();
        encoder.stream().reset_stream(StreamResetReason::RemoteReset);
        encoder.stream().reset_stream(StreamResetReason::LocalReset);
        assert_eq!(watcher.log(), ["reset: remote reset"]);
    }
}

#[test]
fn the_rest_of_a_response_that_is_reset_goes_nowhere() {
    let client = Client::new(LIMITS, false);
    let encoder = client.request("GET");
    client.feed("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx");
    encoder.stream().reset_stream(StreamResetReason::LocalReset);
    client.log();
    client.feed("y");
    assert!(client.log().is_empty());
}

#[test]
fn a_complete_response_cannot_be_reset() {
    let client = Client::new(LIMITS, false);
    let encoder = client.request("GET");
    let watcher = Watcher::on(&*encoder);
    client.feed(EMPTY);
    encoder.stream().reset_stream(StreamResetReason::ConnectionTermination);
    assert!(watcher.log().is_empty());
}

/// Reads what has been written until `done`.
fn drain(link: &Link, what: &str, done: impl Fn() -> bool) {
    link.run_until(what, || {
        link.read_output();
        done()
    });
}

#[test]
fn watermarks_reach_the_stream_of_a_response() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    server.link.connection.set_buffer_limits(10_000);
    server.answer_nothing();
    server.feed(GET);
    let encoder = server.encoder();
    assert_eq!(encoder.stream().buffer_limit(), 10_000);
    let early = Watcher::on(&*encoder);
    encoder.encode_headers(&head(&[(":status", "200")]), false);
    assert!(early.log().is_empty());
    encoder.encode_data(&mut Buffer::from("x".repeat(MUCH).as_str()), false);
    assert_eq!(early.log(), ["high"]);
    let late = Watcher::on(&*encoder);
    assert_eq!(late.log(), ["high"], "a late listener is told at once");
    drain(&server.link, "low", || early.log().len() == 2);
    assert_eq!(early.log(), ["high", "low"]);
    assert_eq!(late.log(), ["high", "low"]);
    assert!(Watcher::on(&*encoder).log().is_empty(), "nothing is left to be told");
}

#[test]
fn watermarks_reach_the_stream_of_a_request() {
    let client = Client::new(LIMITS, false);
    client.link.connection.set_buffer_limits(10_000);
    let encoder = client.new_stream();
    assert_eq!(encoder.stream().buffer_limit(), 10_000);
    let early = Watcher::on(&*encoder);
    encoder.encode_headers(&head(&[(":method", "PUT"), (":path", "/")]), false);
    encoder.encode_data(&mut Buffer::from("x".repeat(MUCH).as_str()), false);
    assert_eq!(early.log(), ["high"]);
    let late = Watcher::on(&*encoder);
    assert_eq!(late.log(), ["high"], "a late listener is told at once");
    drain(&client.link, "low", || early.log().len() == 2);
    assert_eq!(late.log(), ["high", "low"]);
}

#[test]
fn a_stream_on_a_connection_that_is_backed_up_is_told() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    server.link.connection.set_buffer_limits(10_000);
    server.answer_with(|encoder| {
        encoder.encode_headers(&head(&[(":status", "200")]), false);
        encoder.encode_data(&mut Buffer::from("x".repeat(MUCH).as_str()), true);
    });
    server.feed(GET);
    server.answer_nothing();
    server.feed(GET);
    let watcher = Watcher::on(&*server.encoder());
    assert_eq!(watcher.log(), ["high"]);
    drain(&server.link, "low", || watcher.log().len() == 2);
    assert_eq!(watcher.log(), ["high", "low"]);

    let client = Client::new(LIMITS, false);
    client.link.connection.set_buffer_limits(10_000);
    let encoder = client.new_stream();
    encoder.encode_headers(&head(&[(":method", "PUT"), (":path", "/")]), false);
    encoder.encode_data(&mut Buffer::from("x".repeat(MUCH).as_str()), true);
    client.feed(EMPTY);
    let watcher = Watcher::on(&*client.request("GET"));
    assert_eq!(watcher.log(), ["high"]);
    drain(&client.link, "low", || watcher.log().len() == 2);
    assert_eq!(watcher.log(), ["high", "low"]);
}

#[test]
fn watermarks_after_a_reset_are_not_told() {
    let client = Client::new(LIMITS, false);
    client.link.connection.set_buffer_limits(10_000);
    let encoder = client.new_stream();
    let watcher = Watcher::on(&*encoder);
    encoder.stream().reset_stream(StreamResetReason::LocalReset);
    encoder.encode_headers(&head(&[(":method", "PUT"), (":path", "/")]), false);
    encoder.encode_data(&mut Buffer::from("x".repeat(MUCH).as_str()), false);
    assert_eq!(watcher.log(), ["reset: local reset"]);
}

#[test]
fn a_stream_stops_and_resumes_reading() {
    let server = Server::new(Http1Settings::default(), LIMITS);
    server.feed(POST);
    let encoder = server.encoder();
    for disable in [true, true, false, false] {
        encoder.stream().read_disable(disable);
    }
    assert!(server.link.connection.read_enabled());
    encoder.stream().read_disable(true);
    assert!(!server.link.connection.read_enabled());
    encoder.stream().read_disable(false);
    server.log();
    server.feed("body");
    assert_eq!(server.log(), ["data body", "end"]);
}

#[test]
fn a_complete_response_undoes_what_its_stream_paused() {
    let client = Client::new(LIMITS, false);
    let encoder = client.request("GET");
    encoder.stream().read_disable(true);
    encoder.stream().read_disable(true);
    assert!(!client.link.connection.read_enabled());
    // What had been read before the pause.
    client.codec.dispatch(&mut Buffer::from(EMPTY)).unwrap();
    assert!(client.link.connection.read_enabled());
    client.request("GET");
    client.feed(EMPTY);
    assert_eq!(client.log(), ["200 {content-length=0} end", "200 {content-length=0} end"]);
}

#[test]
fn listeners_are_told_nothing_after_a_reset() {
    let helper = StreamCallbackHelper::default();
    let watcher = Rc::new(Watcher::default());
    helper.add(watcher.as_callbacks());
    helper.run_reset_callbacks(StreamResetReason::LocalReset);
    helper.run_high_watermark_callbacks();
    helper.run_low_watermark_callbacks();
    assert_eq!(watcher.log(), ["reset: local reset"]);
}

/// Takes another listener away when anything is told.
struct Remover {
    helper: Rc<StreamCallbackHelper>,
    other: Weak<dyn StreamCallbacks>,
}

impl StreamCallbacks for Remover {
    fn on_reset_stream(&self, _reason: StreamResetReason) {
        self.helper.remove(&self.other);
    }

    fn on_above_write_buffer_high_watermark(&self) {
        self.helper.remove(&self.other);
    }

    fn on_below_write_buffer_low_watermark(&self) {}
}

#[test]
fn a_listener_that_another_takes_away_is_told_nothing_more() {
    let tell: [fn(&StreamCallbackHelper); 2] = [
        |helper| helper.run_reset_callbacks(StreamResetReason::LocalReset),
        |helper| helper.run_high_watermark_callbacks(),
    ];
    for tell in tell {
        let helper = Rc::new(StreamCallbackHelper::default());
        let watcher = Rc::new(Watcher::default());
        let remover: Rc<dyn StreamCallbacks> =
            Rc::new(Remover { helper: helper.clone(), other: watcher.as_callbacks() });
        helper.add(Rc::downgrade(&remover));
        helper.add(watcher.as_callbacks());
        tell(&helper);
        assert!(watcher.log().is_empty());
    }
}

#[test]
fn listeners_are_told_in_their_order_also_when_one_has_gone() {
    let helper = StreamCallbackHelper::default();
    let told = Rc::new(RefCell::new(Vec::new()));
    let listeners: Vec<Rc<dyn StreamCallbacks>> =
        (0..6).map(|number| Rc::new(Numbered { number, told: told.clone() }) as _).collect();
    listeners.iter().for_each(|listener| helper.add(Rc::downgrade(listener)));
    let tell = || {
        helper.run_high_watermark_callbacks();
        told.take()
    };
    assert_eq!(tell(), [0, 1, 2, 3, 4, 5]);
    for (gone, left) in [(1, &[0, 2, 3, 4, 5][..]), (5, &[0, 2, 3, 4]), (0, &[2, 3, 4]), (3, &[2, 4])] {
        helper.remove(&Rc::downgrade(&listeners[gone]));
        assert_eq!(tell(), left);
    }
    helper.add(Rc::downgrade(&listeners[1]));
    assert_eq!(told.take(), [1; 5], "of each watermark that was passed before");
    assert_eq!(tell(), [2, 4, 1]);
}

/// Says its number when anything is told.
struct Numbered {
    number: usize,
    told: Rc<RefCell<Vec<usize>>>,
}

impl StreamCallbacks for Numbered {
    fn on_reset_stream(&self, _reason: StreamResetReason) {}

    fn on_above_write_buffer_high_watermark(&self) {
        self.told.borrow_mut().push(self.number);
    }

    fn on_below_write_buffer_low_watermark(&self) {}
}
