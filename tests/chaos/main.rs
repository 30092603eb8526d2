//! Random clients and upstreams against the real binary. What they do is drawn from a number, which a failure
//! prints. `README.md` here says how to ask for more of it.

mod answers;
mod client;
mod crossings;
mod ends;
#[allow(dead_code)] // the end-to-end tests use the rest
mod harness;
mod options;
mod plan;
mod resets;
mod rest;
mod rounds;
mod sites;
mod upstream;
