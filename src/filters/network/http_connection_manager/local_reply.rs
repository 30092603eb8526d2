//! What becomes of answers that are made here.
//!
//! Stands where Envoy 1.40 has its room `local_reply`; answers of 1.1 (`source/common/http/utility.cc`) are what they are.

use std::sync::Arc;

use crate::access_log::{self, AccessLogFactoryContext, FilterPtr};
use crate::config::access_log_filter::AccessLogFilter;
use crate::config::reader::{FromMessage, MessageReader};
use crate::config::route::{HeaderMutations, HeaderValueOption};
use crate::config::{ConfigError, DataSource};
use crate::filters::http::manager::LocalReplyContent;
use crate::formatter::{Context, Formatter, SubstitutionFormatString};
use crate::http::HeaderMap;
use crate::router::HeaderParser;
use crate::stream_info::StreamInfoImpl;

/// What the configuration says of it.
#[derive(Debug, Clone, Default)]
pub struct LocalReplyConfig {
    /// The first that takes an answer changes it.
    pub mappers: Vec<ResponseMapper>,
    /// How bodies are put, unless a mapper says otherwise.
    pub body_format: Option<SubstitutionFormatString>,
}

impl PartialEq for LocalReplyConfig {
    fn eq(&self, other: &Self) -> bool {
        self.mappers == other.mappers && same_format(&self.body_format, &other.body_format)
    }
}

impl FromMessage for LocalReplyConfig {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(LocalReplyConfig { mappers: r.messages("mappers")?, body_format: r.message("body_format")? })
    }
}

/// A change of some answers.
#[derive(Debug, Clone)]
pub struct ResponseMapper {
    /// Of these.
    pub filter: AccessLogFilter,
    /// Another status.
    pub status_code: Option<u32>,
    /// Another body.
    pub body: Option<DataSource>,
    /// How it is put.
    pub body_format: Option<SubstitutionFormatString>,
    /// More headers.
    pub headers_to_add: Vec<HeaderValueOption>,
}

impl PartialEq for ResponseMapper {
    fn eq(&self, other: &Self) -> bool {
        (&self.filter, self.status_code, &self.body, &self.headers_to_add)
            == (&other.filter, other.status_code, &other.body, &other.headers_to_add)
            && same_format(&self.body_format, &other.body_format)
    }
}

/// Formats are the same where nothing was read anew.
fn same_format(a: &Option<SubstitutionFormatString>, b: &Option<SubstitutionFormatString>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(&a.formatter, &b.formatter) && a.content_type == b.content_type,
        (None, None) => true,
        _ => false,
    }
}

impl FromMessage for ResponseMapper {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let (status_code, body) = (r.opt_u32("status_code")?, r.message("body")?);
        let body_format = r.message("body_format_override")?;
        let headers_to_add = r.messages("headers_to_add")?;
        Ok(ResponseMapper {
            filter: r.required_message("filter")?,
            status_code,
            body,
            body_format,
            headers_to_add,
        })
    }
}

/// Changes answers.
pub struct LocalReply {
    mappers: Box<[Mapper]>,
    body_format: Option<BodyFormatter>,
}

struct Mapper {
    filter: FilterPtr,
    status: Option<u16>,
    body: Option<Box<str>>,
    headers: Option<Arc<HeaderParser>>,
    body_format: Option<BodyFormatter>,
}

struct BodyFormatter {
    formatter: Arc<Formatter>,
    content_type: Arc<str>,
}

impl BodyFormatter {
    fn new(config: &SubstitutionFormatString) -> Self {
        let content_type = match (config.content_type.as_str(), &*config.formatter) {
            ("", Formatter::Json(_)) => "application/json",
            ("", Formatter::Text(_)) => "text/plain",
            (given, _) => given,
        };
        BodyFormatter { formatter: config.formatter.clone(), content_type: content_type.into() }
    }
}

impl LocalReply {
    /// As the configuration has it; `None` where it changes nothing.
    ///
    /// # Errors
    /// A filter, a format or a file that cannot be had.
    pub fn create(
        config: &LocalReplyConfig,
        context: &AccessLogFactoryContext<'_>,
    ) -> Result<Option<Self>, ConfigError> {
        if config.mappers.is_empty() && config.body_format.is_none() {
            return Ok(None);
        }
        let mapper = |(i, mapper)| {
            Mapper::new(mapper, context).map_err(|error| error.within(&format!("mappers[{i}]")))
        };
        Ok(Some(LocalReply {
            mappers: config.mappers.iter().enumerate().map(mapper).collect::<Result<_, _>>()?,
            body_format: config.body_format.as_ref().map(BodyFormatter::new),
        }))
    }

    /// Changes an answer to `request` as the first mapper says that takes it, and puts its body.
    pub fn rewrite(
        &self,
        request: Option<&HeaderMap>,
        headers: &mut HeaderMap,
        info: &StreamInfoImpl,
        content: &mut LocalReplyContent<'_>,
    ) {
        headers.set_status(content.status);
        info.response_code.set(Some(content.status));
        let takes = |mapper: &&Mapper| mapper.filter.evaluate(&context(request, headers, info, b""));
        let mapper = self.mappers.iter().find(takes);
        if let Some(mapper) = mapper {
            mapper.apply(request, headers, info, content);
        }
        let own = mapper.and_then(|mapper| mapper.body_format.as_ref());
        let Some(format) = own.or(self.body_format.as_ref()) else { return };
        let mut body = Vec::new();
        format.formatter.format(&mut body, &context(request, headers, info, &content.body));
        content.body = body.into();
        content.is_json_line = matches!(*format.formatter, Formatter::Json(_));
        content.content_type = Some(format.content_type.clone());
    }
}

fn context<'a>(
    request_headers: Option<&'a HeaderMap>,
    response_headers: &'a HeaderMap,
    info: &'a StreamInfoImpl,
    local_reply_body: &'a [u8],
) -> Context<'a> {
    Context {
        request_headers,
        response_headers: Some(response_headers),
        local_reply_body,
        ..Context::new(info)
    }
}

impl Mapper {
    fn new(config: &ResponseMapper, context: &AccessLogFactoryContext<'_>) -> Result<Self, ConfigError> {
        let body = config
            .body
            .as_ref()
            .map(|body| body.text().map(Into::into).map_err(|message| ConfigError::new("body", message)));
        let mutations = HeaderMutations { to_add: config.headers_to_add.clone(), to_remove: Vec::new() };
        Ok(Mapper {
            filter: access_log::from_config(&config.filter, context)
                .map_err(|error| error.within("filter"))?,
            status: config.status_code.map(|status| status as u16),
            body: body.transpose()?,
            headers: HeaderParser::configure(&mutations, "headers_to_add")?,
            body_format: config.body_format.as_ref().map(BodyFormatter::new),
        })
    }

    fn apply(
        &self,
        request: Option<&HeaderMap>,
        headers: &mut HeaderMap,
        info: &StreamInfoImpl,
        content: &mut LocalReplyContent<'_>,
    ) {
        if let Some(body) = &self.body {
            content.body = body.as_bytes().to_vec().into();
        }
        if let Some(parser) = &self.headers {
            parser.evaluate_response(headers, request, info);
        }
        if let Some(status) = self.status {
            content.status = status;
            headers.set_status(status);
            info.response_code.set(Some(status));
        }
    }
}
