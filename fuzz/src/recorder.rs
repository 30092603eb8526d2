//! An HTTP filter that writes down what passes, in front of the router.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use legate::buffer::Buffer;
use legate::config::ConfigError;
use legate::filters::FactoryContext;
use legate::filters::http::{
    FilterDataStatus, FilterFactory, FilterFactoryCb, FilterHeadersStatus, FilterTrailersStatus,
    HttpFilterConfig, StreamDecoderFilter, StreamDecoderFilterCallbacks, StreamEncoderFilter,
    StreamEncoderFilterCallbacks,
};
use legate::http::{HeaderMap, HeaderMapPtr};
use legate::stats::Scope;

/// Names and values.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Fields in words.
pub fn text(fields: &Fields) -> String {
    let text =
        fields.iter().map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
    format!("{{{}}}", text.collect::<Vec<_>>().join(", "))
}

/// One direction of a stream, as the filters saw it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Half {
    pub headers: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub complete: bool,
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} b\"{}\" {}", text(&self.headers), self.body.escape_ascii(), text(&self.trailers))?;
        write!(f, " complete={}", self.complete)
    }
}

/// A stream, as the filters saw it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StreamRecord {
    pub request: Half,
    pub response: Half,
    /// `onDestroy` was called.
    pub destroyed: bool,
}

thread_local! {
    /// The streams of the present run.
    static STREAMS: RefCell<Vec<Rc<RefCell<StreamRecord>>>> = const { RefCell::new(Vec::new()) };
}

/// What has been written down in this run so far.
pub fn so_far() -> Vec<StreamRecord> {
    STREAMS.with_borrow(|streams| streams.iter().map(|record| record.borrow().clone()).collect())
}

/// Ends the run; true when all streams are gone.
pub fn end() -> bool {
    STREAMS.take().iter().all(|record| record.borrow().destroyed)
}

/// Makes recorders.
#[derive(Debug)]
pub struct RecorderFactory;

impl HttpFilterConfig for RecorderFactory {
    fn create_filter_factory(
        &self,
        _name: &str,
        _scope: &Scope,
        _context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        Ok(Arc::new(RecorderFactory))
    }
}

impl FilterFactory for RecorderFactory {
    fn on_worker(&self) -> FilterFactoryCb {
        Box::new(|callbacks| {
            let recorder = Rc::new(Recorder::default());
            STREAMS.with_borrow_mut(|streams| streams.push(recorder.record.clone()));
            callbacks.add_stream_filter(recorder);
        })
    }
}

#[derive(Default)]
struct Recorder {
    record: Rc<RefCell<StreamRecord>>,
}

impl Recorder {
    fn request(&self, f: impl FnOnce(&mut Half)) {
        let record = &mut *self.record.borrow_mut();
        assert!(!record.destroyed, "a filter is called after onDestroy");
        assert!(!record.request.complete, "a filter is given more than the request");
        f(&mut record.request);
    }

    fn response(&self, f: impl FnOnce(&mut Half)) {
        let record = &mut *self.record.borrow_mut();
        assert!(!record.destroyed, "a filter is called after onDestroy");
        assert!(!record.response.complete, "a filter is given more than the response");
        f(&mut record.response);
    }
}

fn fields(headers: &HeaderMap) -> Fields {
    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn append(body: &mut Vec<u8>, data: &Buffer) {
    data.chunks().for_each(|chunk| body.extend_from_slice(chunk));
}

impl StreamDecoderFilter for Recorder {
    fn set_decoder_filter_callbacks(&self, _callbacks: StreamDecoderFilterCallbacks) {}

    fn decode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        self.request(|half| {
            half.headers = fields(&headers.borrow());
            half.complete = end_stream;
        });
        FilterHeadersStatus::Continue
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        self.request(|half| {
            append(&mut half.body, data);
            half.complete = end_stream;
        });
        FilterDataStatus::Continue
    }

    fn decode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        self.request(|half| {
            half.trailers = fields(&trailers.borrow());
            half.complete = true;
        });
        FilterTrailersStatus::Continue
    }

    fn on_destroy(&self) {
        let record = &mut *self.record.borrow_mut();
        assert!(!record.destroyed, "onDestroy is called twice");
        record.destroyed = true;
    }
}

impl StreamEncoderFilter for Recorder {
    fn set_encoder_filter_callbacks(&self, _callbacks: StreamEncoderFilterCallbacks) {}

    fn encode_headers(&self, headers: &HeaderMapPtr, end_stream: bool) -> FilterHeadersStatus {
        self.response(|half| {
            half.headers = fields(&headers.borrow());
            half.complete = end_stream;
        });
        FilterHeadersStatus::Continue
    }

    fn encode_data(&self, data: &mut Buffer, end_stream: bool) -> FilterDataStatus {
        self.response(|half| {
            append(&mut half.body, data);
            half.complete = end_stream;
        });
        FilterDataStatus::Continue
    }

    fn encode_trailers(&self, trailers: &HeaderMapPtr) -> FilterTrailersStatus {
        self.response(|half| {
            half.trailers = fields(&trailers.borrow());
            half.complete = true;
        });
        FilterTrailersStatus::Continue
    }
}
