//! The codec's statistics, with the names of 1.40.
//!
//! Mirrors `CodecStats` of Envoy 1.40's `source/common/http/http1/codec_stats.h`; 1.1 counts in the codec of HTTP/2 alone.

use crate::stats_struct;

stats_struct! {
    /// `http1.`: the codecs of all connection managers together.
    pub struct CodecStats {
        counters: [
            dropped_headers_with_underscores,
            metadata_not_supported_error,
            requests_rejected_with_underscores_in_headers,
            response_flood,
        ],
        gauges: [],
        histograms: [],
    }
}
