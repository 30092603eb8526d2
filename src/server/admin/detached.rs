//! The admin of a server that serves nobody, for tests that ask it without a socket (Envoy's tests have
//! `Admin::request` for that).

use std::rc::Rc;

use super::{AdminImpl, Request, Turns};
use crate::config::Bootstrap;
use crate::filters::LINKED;
use crate::server::admin::request::Progress;
use crate::server::options::Options;
use crate::server::server::InstanceImpl;

/// See the module's description.
pub struct DetachedAdmin {
    admin: AdminImpl,
    _server: Rc<InstanceImpl>,
}

impl DetachedAdmin {
    /// Builds a server and does not run it.
    ///
    /// # Errors
    /// What cannot be had, in words.
    pub fn new(bootstrap: Bootstrap) -> Result<Self, String> {
        let args = ["legate", "--concurrency", "1"].map(Into::into);
        let options = Options::parse(args).map_err(|_| "options")?;
        let server = InstanceImpl::new(options, &LINKED, bootstrap, Vec::new())?;
        let admin = AdminImpl { server: Rc::downgrade(&server), turns: Turns::new(&server.dispatcher) };
        Ok(DetachedAdmin { admin, _server: server })
    }

    /// The status and the body of an answer; `form` is the request's body. A body of which nothing comes any more,
    /// and which does not end, is an error.
    ///
    /// # Errors
    /// What the body is so far.
    pub fn request(&self, method: &str, path_and_query: &str, form: &str) -> Result<(u16, String), String> {
        let mut request = Request::new(method, path_and_query);
        request.add_form(form);
        let mut response = self.admin.run(&request);
        let mut body = String::new();
        let mut without_progress = 0;
        while without_progress < 100_000 {
            let before = body.len();
            if response.body.append(&mut body) != Progress::More {
                return Ok((response.status, body));
            }
            without_progress = if body.len() > before { 0 } else { without_progress + 1 };
        }
        Err(body)
    }
}
