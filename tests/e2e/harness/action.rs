//! What an upstream is told to do.

/// One thing that a connection of the upstream does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Wait for the end of the next request head.
    Head,
    /// Wait for these bytes behind what was waited for last.
    Until(Vec<u8>),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Wait until the client of the case has got these bytes.
    ClientHas(Vec<u8>),
    /// Do nothing for so many milliseconds: a slow upstream.
    Pause(u64),
    /// Close.
    Close,
    /// Close with a reset.
    Reset,
    /// Say that no more bytes will come.
    FinishWriting,
    /// Answer every complete request with `ok` from here on.
    Serve,
    /// Do with each complete request what the board says, or serve it where that says nothing.
    AsTold,
}
