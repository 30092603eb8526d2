//! What an endpoint gets and gives.

/// A request to the admin.
pub struct Request {
    /// The method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The query's parameters in their order, percent-decoded; one without `=` has an empty value.
    params: Vec<(String, String)>,
}

impl Request {
    /// Takes a path with its query apart.
    pub fn new(method: &str, path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let params = query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                (percent_decode(key), percent_decode(value))
            })
            .collect();
        Request { method: method.to_string(), path: path.to_string(), params }
    }

    /// The value of a parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All parameters.
    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digits = (byte == b'%').then(|| {
            let high = (ahead.next()? as char).to_digit(16)?;
            let low = (ahead.next()? as char).to_digit(16)?;
            Some((high * 16 + low) as u8)
        });
        match digits.flatten() {
            Some(decoded) => {
                out.push(decoded);
                bytes = ahead;
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer of the admin.
pub struct Response {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Response {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Response { status, content_type: "text/plain; charset=UTF-8", body: body.into() }
    }

    /// JSON.
    pub fn json(body: impl Into<String>) -> Self {
        Response { status: 200, content_type: "application/json", body: body.into() }
    }

    /// HTML.
    pub fn html(body: impl Into<String>) -> Self {
        Response { status: 200, content_type: "text/html; charset=UTF-8", body: body.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_apart() {
        let r = Request::new("GET", "/stats?usedonly&filter=a%2eb&x=%zz");
        assert_eq!(r.path, "/stats");
        assert_eq!(r.param("usedonly"), Some(""));
        assert_eq!(r.param("filter"), Some("a.b"));
        assert_eq!(r.param("x"), Some("%zz"));
        assert_eq!(r.param("y"), None);
    }
}
