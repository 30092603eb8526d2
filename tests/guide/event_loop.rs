//! What a pass of the event loop is, shown by running one: `cargo run -q --example event_loop -- SCENE`.
//!
//! The scenes are those of `docs/guide/1-event-loop.md`: `passes`, `edge`, `accept`, `post`. Each line tells
//! in which pass of the loop it was printed, as the stage recorder counts them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use legate::event::{Dispatcher, READ, RunType};
use legate::trace;

const LATER: Duration = Duration::from_millis(100);

/// The pass that is running.
fn pass() -> u64 {
    let threads = trace::collect();
    threads.iter().flat_map(|thread| &thread.events).map(|event| event.pass).max().unwrap_or(0)
}

fn say(text: &str) {
    println!("pass {}: {text}", pass());
}

/// Tells when it is dropped.
struct Dead;

impl Drop for Dead {
    fn drop(&mut self) {
        say("what was deleted is dropped");
    }
}

/// A callback asks for one of everything; what comes when?
fn passes(dispatcher: &Rc<Dispatcher>) -> std::io::Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let (others, other_peer) = UnixStream::pair()?;
    let peer = other_peer.try_clone()?;
    theirs.write_all(b"x")?;

    let to_exit = dispatcher.clone();
    let at_last = dispatcher.create_timer(move || {
        say("the timer of 100 ms");
        to_exit.exit();
    });
    let zero = dispatcher.create_timer(|| say("the timer of 0 ms"));
    let after_poll = dispatcher.create_timer(|| say("the timer that waits for the poll"));
    let other =
        dispatcher.create_file_event(others, |_| say("the other fd is readable"), READ).expect("watched");
    let active =
        dispatcher.create_file_event(other_peer, |_| say("the activated event"), READ).expect("watched");

    let to_post = dispatcher.clone();
    let first = dispatcher
        .create_file_event(
            ours,
            move |_| {
                say("the fd is readable; its callback asks for everything");
                at_last.enable_timer(LATER);
                after_poll.enable_after_poll();
                let _ = (&peer).write_all(b"x");
                active.activate(READ);
                zero.enable_timer(Duration::ZERO);
                to_post.post(|| say("the post"));
                to_post.deferred_delete(Rc::new(Dead));
                say("the callback returns");
            },
            READ,
        )
        .expect("watched");
    dispatcher.run(RunType::Block);
    drop((first, other));
    Ok(())
}

/// A callback reads one byte of three; who tells it of the others?
fn edge(dispatcher: &Rc<Dispatcher>) -> std::io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    (&theirs).write_all(b"abc")?;
    let watched = ours.try_clone()?;
    let event = Rc::new(
        dispatcher
            .create_file_event(
                watched,
                move |_| {
                    let mut byte = [0];
                    match (&ours).read(&mut byte) {
                        Ok(n) => say(&format!("called, read {:?}", String::from_utf8_lossy(&byte[..n]))),
                        Err(error) => say(&format!("called, nothing to read: {:?}", error.kind())),
                    }
                },
                READ,
            )
            .expect("watched"),
    );

    let (to_activate, to_exit) = (event.clone(), dispatcher.clone());
    let third = dispatcher.create_timer(move || to_exit.exit());
    let second = dispatcher.create_timer(move || {
        say("100 ms later; event_active(EV_READ)");
        to_activate.activate(READ);
        third.enable_timer(LATER);
    });
    let first = dispatcher.create_timer(move || {
        say("100 ms later, nobody has called; the other end sends \"d\"");
        let _ = (&theirs).write_all(b"d");
        second.enable_timer(LATER);
    });
    first.enable_timer(LATER);
    dispatcher.run(RunType::Block);
    drop(event);
    Ok(())
}

/// Three clients are in the backlog.
fn accept(dispatcher: &Rc<Dispatcher>) -> std::io::Result<()> {
    let socket = TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let clients = (0..3).map(|_| TcpStream::connect(address)).collect::<Result<Vec<_>, _>>()?;
    let to_exit = dispatcher.clone();
    let at_last = dispatcher.create_timer(move || to_exit.exit());
    let listener = dispatcher.create_listener(
        socket,
        move |_| {
            say("accepted");
            at_last.enable_timer(LATER);
        },
        |error| say(&format!("accept failed: {error}")),
    )?;
    dispatcher.run(RunType::Block);
    drop((listener, clients));
    Ok(())
}

/// Another thread has work for a loop that sleeps, and more while the first of it is done.
fn post(dispatcher: &Rc<Dispatcher>) -> std::io::Result<()> {
    let handle = dispatcher.handle();
    let (started, when_started) = mpsc::channel();
    let (more_sent, when_more_sent) = mpsc::channel();
    let poster = std::thread::spawn(move || {
        std::thread::sleep(LATER); // so that the loop is in epoll_wait by now
        let own = std::thread::current().id();
        let tell = move |number| {
            let elsewhere = std::thread::current().id() != own;
            say(&format!("post {number}, on another thread than the one that posted: {elsewhere}"));
        };
        handle.post(move || {
            tell(1);
            let _ = started.send(());
            let _ = when_more_sent.recv();
        });
        let _ = when_started.recv();
        handle.post(move || tell(2));
        handle.post(move || tell(3));
        let _ = more_sent.send(());
        handle.exit();
    });
    dispatcher.run(RunType::RunUntilExit);
    poster.join().map_err(|_| std::io::Error::other("the other thread panicked"))
}

fn main() -> ExitCode {
    let scene = std::env::args().nth(1).unwrap_or_default();
    let dispatcher = Dispatcher::new("main_thread");
    trace::enable();
    let outcome = match scene.as_str() {
        "passes" => passes(&dispatcher),
        "edge" => edge(&dispatcher),
        "accept" => accept(&dispatcher),
        "post" => post(&dispatcher),
        _ => Err(std::io::Error::other("scenes: passes, edge, accept, post")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
