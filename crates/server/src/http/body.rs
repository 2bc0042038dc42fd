//! Reading request bodies: limited in size and time, also after decompression.

use std::{borrow::Cow, io::Read, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use synapse_hub_core::Code;

use super::problem::{Failure, Result};

/// Compressed bodies larger than this are unpacked on a thread that may block.
const INLINE_BYTES_MAX: usize = 32 << 10;
/// The largest window of a zstd frame, as RFC 9659 has it for HTTP: 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Reads a body whole and unpacks it.
pub(crate) async fn read(headers: &HeaderMap, body: Body, bytes_max: usize, patience: Duration) -> Result<Bytes> {
    let encoding = encoding(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max, ""));
    }
    let read = tokio::time::timeout(patience, collect(body, bytes_max));
    let packed = read.await.map_err(|_| {
        let what =
            format!("the body was not complete after {} (`http.body_timeout`)", humantime::format_duration(patience));
        Failure::new(Code::RequestTimeout, what)
    })??;
    match encoding {
        None => Ok(packed),
        Some(encoding) if packed.len() <= INLINE_BYTES_MAX => unpack(&packed, encoding, bytes_max),
        Some(encoding) => tokio::task::spawn_blocking(move || unpack(&packed, encoding, bytes_max))
            .await
            .unwrap_or_else(|_| Err(Failure::new(Code::Internal, "unpacking the body failed"))),
    }
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes> {
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let what = format!("the body could not be read to its end: {error}");
            Failure::new(Code::InvalidArgument, what)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len().max(rest.as_ref().map_or(0, BytesMut::len)) + data.len() > bytes_max {
            return Err(too_large(bytes_max, ""));
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&data),
            // Most bodies are one frame, which needs no copy.
            None if first.is_empty() => first = data,
            None => {
                let mut joined = BytesMut::with_capacity((first.len() + data.len()) * 2);
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                rest = Some(joined);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

#[derive(Debug, Clone, Copy)]
enum Encoding {
    Gzip,
    Deflate,
    Zstd,
}

fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = value.to_str().map_or(Cow::Borrowed("?"), |text| Cow::Owned(text.trim().to_ascii_lowercase()));
        let encoding = match text.as_ref() {
            "" | "identity" => continue,
            "gzip" | "x-gzip" => Encoding::Gzip,
            "deflate" => Encoding::Deflate,
            "zstd" => Encoding::Zstd,
            _ => return Err(unknown_encoding()),
        };
        if found.replace(encoding).is_some() {
            return Err(unknown_encoding());
        }
    }
    Ok(found)
}

fn unknown_encoding() -> Failure {
    let what = "`Content-Encoding` is one of gzip, deflate, zstd and identity, or is left out";
    synapse_hub_core::Error::new(Code::UnsupportedMediaType, what).field("content-encoding").into()
}

fn unpack(packed: &[u8], encoding: Encoding, bytes_max: usize) -> Result<Bytes> {
    match encoding {
        Encoding::Gzip => drain(flate2::read::MultiGzDecoder::new(packed), bytes_max),
        // RFC 9110 means the zlib format; some clients send the bare one.
        Encoding::Deflate if packed.first().is_some_and(|byte| byte & 0x0f == 8) => {
            drain(flate2::read::ZlibDecoder::new(packed), bytes_max)
        }
        Encoding::Deflate => drain(flate2::read::DeflateDecoder::new(packed), bytes_max),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(|error| damaged(&error))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| damaged(&error))?;
            drain(decoder, bytes_max)
        }
    }
}

fn drain(decoder: impl Read, bytes_max: usize) -> Result<Bytes> {
    let mut unpacked = Vec::new();
    decoder.take(bytes_max as u64 + 1).read_to_end(&mut unpacked).map_err(|error| damaged(&error))?;
    if unpacked.len() > bytes_max {
        return Err(too_large(bytes_max, " after decompression"));
    }
    Ok(unpacked.into())
}

fn damaged(error: &std::io::Error) -> Failure {
    Failure::argument("content-encoding", format!("the body does not unpack as its `Content-Encoding` says: {error}"))
}

fn too_large(bytes_max: usize, when: &str) -> Failure {
    let what = format!(
        "the body has more than {bytes_max} bytes{when} (`limits.body_bytes`); send several requests, or stream over gRPC"
    );
    Failure::new(Code::BodyTooLarge, what)
}
