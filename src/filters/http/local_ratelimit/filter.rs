//! The filter itself. Mirrors `Filter` of Envoy 1.40's
//! `source/extensions/filters/http/local_ratelimit/local_ratelimit.cc`.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;

use super::config::FilterConfig;
use super::limiter::RateLimitTokenBucket;
use super::{RouteConfig, Settings};
use crate::filters::http::{
    FilterHeadersStatus, StreamDecoderFilter, StreamDecoderFilterCallbacks, StreamEncoderFilter,
};
use crate::http::{HeaderMap, HeaderMapPtr};
use crate::stream_info::ResponseFlag;

pub(super) struct Filter {
    settings: Rc<Settings>,
    decoder: OnceCell<StreamDecoderFilterCallbacks>,
    /// The route's.
    config: OnceCell<Arc<FilterConfig>>,
    /// The bucket that the client is told of.
    token_bucket: OnceCell<Arc<RateLimitTokenBucket>>,
    /// Whether it is; `None` leaves it to the configuration.
    x_ratelimit_option: Cell<Option<bool>>,
}

impl Filter {
    pub fn new(settings: Rc<Settings>) -> Self {
        Filter {
            settings,
            decoder: OnceCell::new(),
            config: OnceCell::new(),
            token_bucket: OnceCell::new(),
            x_ratelimit_option: Cell::default(),
        }
    }

    fn used_config(&self) -> &FilterConfig {
        self.config.get().unwrap_or(&self.settings.config)
    }

    /// Answers a request that is too many.
    fn refuse(&self, callbacks: &StreamDecoderFilterCallbacks, request: &HeaderMapPtr) {
        let config = self.used_config();
        let modify = |headers: &mut HeaderMap| {
            if let Some(parser) = &config.response_headers {
                let request = request.try_borrow().ok();
                parser.evaluate_response(headers, request.as_deref(), callbacks.stream_info());
            }
            if let Some(bucket) = self.token_bucket.get().filter(|_| config.enable_retry_after_header()) {
                headers.add("retry-after", bucket.reset_seconds().to_string().as_bytes());
            }
        };
        let (status, grpc_status) = (config.status, config.grpc_status);
        let text = "local_rate_limited";
        callbacks.send_local_reply_with_grpc_status(status, text, Some(&modify), grpc_status, text.into());
        callbacks.stream_info().set_response_flag(ResponseFlag::RateLimited);
    }
}

impl StreamDecoderFilter for Filter {
    fn set_decoder_filter_callbacks(&self, callbacks: StreamDecoderFilterCallbacks) {
        self.decoder.get_or_init(|| callbacks);
    }

    fn decode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let Some(callbacks) = self.decoder.get() else { return FilterHeadersStatus::Continue };
        let route = callbacks.route();
        let of_route = route.as_ref().and_then(|r| r.most_specific_filter_config(&self.settings.name));
        if let Some(RouteConfig(config)) = of_route {
            self.config.get_or_init(|| config.clone());
        }
        let config = self.used_config();
        if !config.enabled() {
            return FilterHeadersStatus::Continue;
        }
        config.stats.enabled.inc();
        let result = config.request_allowed(route.as_deref(), &headers.borrow(), callbacks.stream_info());
        self.x_ratelimit_option.set(result.x_ratelimit_option);
        if let Some(bucket) = result.token_bucket {
            self.token_bucket.get_or_init(|| bucket);
        }
        if result.allowed {
            config.stats.ok.inc();
            return FilterHeadersStatus::Continue;
        }
        config.stats.rate_limited.inc();
        if result.shadow_mode {
            config.stats.shadow_mode.inc();
            return FilterHeadersStatus::Continue;
        }
        if !config.enforced() {
            if let Some(parser) = &config.request_headers {
                parser.evaluate_request(&mut headers.borrow_mut(), callbacks.stream_info());
            }
            return FilterHeadersStatus::Continue;
        }
        config.stats.enforced.inc();
        self.refuse(callbacks, headers);
        FilterHeadersStatus::StopIteration
    }
}

impl StreamEncoderFilter for Filter {
    fn encode_headers(&self, headers: &HeaderMapPtr, _end_stream: bool) -> FilterHeadersStatus {
        let bucket = self
            .token_bucket
            .get()
            .filter(|_| self.used_config().enable_x_rate_limit_headers(self.x_ratelimit_option.get()));
        let Some(bucket) = bucket else { return FilterHeadersStatus::Continue };
        let mut headers = headers.borrow_mut();
        for (name, value) in [
            ("x-ratelimit-limit", bucket.max_tokens()),
            ("x-ratelimit-remaining", bucket.remaining_tokens()),
            ("x-ratelimit-reset", bucket.reset_seconds()),
        ] {
            headers.add(name, value.to_string().as_bytes());
        }
        FilterHeadersStatus::Continue
    }
}
