//! Latency histograms inside the record: a summary to read, and the whole of it to compute with.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{
    DeserializeError, Deserializer, Serializer as _, V2SerializeError, V2Serializer,
};

use crate::HistogramRecord;

/// What HdrHistogram's V2 encoding begins with.
const COOKIE: [u8; 4] = [0x1c, 0x84, 0x93, 0x13];

/// How many bytes stand before the counts: the cookie, their length, and what the histogram is like.
const HEADER: usize = 40;

/// Why a histogram could not be put into a record.
#[derive(Debug, thiserror::Error)]
#[error("encode a latency histogram")]
pub struct HistogramEncodeError(#[source] V2SerializeError);

/// Why a record's histogram could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HistogramDecodeError {
    /// The text is not base64.
    #[error("decode a latency histogram that is not base64")]
    Base64(#[source] base64::DecodeError),
    /// The bytes are not an HdrHistogram.
    #[error("decode a latency histogram that is not in HdrHistogram's V2 encoding")]
    Hdr(#[source] DeserializeError),
}

impl HistogramRecord {
    /// Summarises and encodes a histogram of microseconds. An empty one has zeros everywhere.
    ///
    /// # Errors
    /// When a count exceeds `i64::MAX`, which the encoding cannot hold.
    pub fn from_histogram(histogram: &Histogram<u64>) -> Result<Self, HistogramEncodeError> {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(HistogramEncodeError)?;
        Ok(Self {
            count: histogram.len(),
            min_us: histogram.min(),
            // A thousandth of a microsecond is finer than any clock here.
            mean_us: (histogram.mean() * 1_000.0).round() / 1_000.0,
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
            hdr: BASE64.encode(bytes),
        })
    }

    /// Returns the whole histogram.
    ///
    /// # Errors
    /// When `hdr` is not base64 or not HdrHistogram's V2 encoding.
    pub fn decode(&self) -> Result<Histogram<u64>, HistogramDecodeError> {
        let bytes = BASE64
            .decode(&self.hdr)
            .map_err(HistogramDecodeError::Base64)?;
        complete(&bytes)
            .and_then(|()| Deserializer::new().deserialize(&mut bytes.as_slice()))
            .map_err(HistogramDecodeError::Hdr)
    }
}

/// Checks that the counts are there that the header announces: the decoder takes memory for them
/// first, whatever their number.
fn complete(bytes: &[u8]) -> Result<(), DeserializeError> {
    let Some((cookie, rest)) = bytes.split_first_chunk() else {
        return Err(DeserializeError::InvalidCookie);
    };
    if *cookie != COOKIE {
        return Err(DeserializeError::InvalidCookie);
    }
    let announced = rest.first_chunk().map(|length| u32::from_be_bytes(*length));
    let announced = announced.and_then(|length| usize::try_from(length).ok());
    let there = bytes.len().checked_sub(HEADER);
    if announced.is_some() && announced <= there {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        for &value in values {
            histogram.record(value).unwrap();
        }
        histogram
    }

    #[test]
    fn a_histogram_comes_back_whole_and_its_summary_agrees() {
        let values: Vec<u64> = (1..=1_000).map(|i| i * 37).collect();
        let original = histogram(&values);
        let record = HistogramRecord::from_histogram(&original).unwrap();
        let decoded = record.decode().unwrap();
        assert_eq!(decoded, original);
        assert_eq!(record.count, 1_000);
        assert_eq!(record.p99_us, decoded.value_at_quantile(0.99));
        assert!((record.mean_us - 37.0 * 500.5).abs() < 37.0);
        assert!(record.min_us <= 37 && record.max_us >= 37_000);
    }

    #[test]
    fn an_empty_histogram_has_zeros_everywhere() {
        let record = HistogramRecord::from_histogram(&histogram(&[])).unwrap();
        assert_eq!((record.count, record.min_us, record.max_us), (0, 0, 0));
        assert_eq!((record.p50_us, record.p999_us), (0, 0));
        assert!(record.mean_us.abs() < f64::EPSILON);
        assert_eq!(record.decode().unwrap().len(), 0);
    }

    #[test]
    fn text_that_is_no_histogram_is_refused_with_its_cause() {
        let mut record = HistogramRecord::from_histogram(&histogram(&[5])).unwrap();
        record.hdr = "not base64!".into();
        assert!(matches!(
            record.decode(),
            Err(HistogramDecodeError::Base64(_))
        ));
        record.hdr = BASE64.encode(b"some other bytes");
        assert!(matches!(
            record.decode(),
            Err(HistogramDecodeError::Hdr(DeserializeError::InvalidCookie))
        ));
    }

    #[test]
    fn counts_that_are_announced_and_not_there_take_no_memory() {
        let mut record = HistogramRecord::from_histogram(&histogram(&[5])).unwrap();
        let whole = BASE64.decode(&record.hdr).unwrap();
        let mut announced = whole.clone();
        announced[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        for cut in [&announced[..], &whole[..whole.len() - 1], &whole[..6]] {
            record.hdr = BASE64.encode(cut);
            let error = record.decode().unwrap_err();
            let HistogramDecodeError::Hdr(DeserializeError::IoError(cause)) = error else {
                panic!("{error:?}");
            };
            assert_eq!(cause.kind(), io::ErrorKind::UnexpectedEof);
            // The decoder's own error has a text of its own.
            assert_eq!(cause.to_string(), "unexpected end of file");
        }
    }
}
