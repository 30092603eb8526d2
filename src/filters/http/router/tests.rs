//! What the router makes of its route, its pool and its upstream, in the words of [`fixture`].

mod fixture;
mod requests;
mod responses;
