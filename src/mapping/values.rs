//! The values of sources in one request.

use std::net::IpAddr;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::{
    HttpRequest, MOST_VALUE_BYTES, MappingError, UsedSource,
    absent::Absent,
    address::{self, ClientAddress},
    claim, cookie, host, path, query,
    source::Source,
    target::Target,
};

/// The value of a source, or the reason why it has none.
pub(super) type Value = Result<Bytes, Absent>;

/// Reads the value of each source when it is needed, and only once, so that the memory of a
/// request does not grow with the number of entries.
pub(super) struct Values<'a> {
    sources: &'a [UsedSource],
    client: &'a ClientAddress,
    request: &'a HttpRequest<'a>,
    /// The value of each shared source that has been read.
    read: SmallVec<[Option<Value>; 4]>,
}

impl<'a> Values<'a> {
    pub(super) fn new(
        sources: &'a [UsedSource],
        client: &'a ClientAddress,
        request: &'a HttpRequest<'a>,
    ) -> Self {
        Self { sources, client, request, read: smallvec![None; sources.len()] }
    }

    /// The value of the source with this index, which is not empty.
    pub(super) fn get(&mut self, index: usize) -> Result<Value, MappingError> {
        if let Some(Some(value)) = self.read.get(index) {
            return Ok(value.clone());
        }
        let Some(UsedSource { source, is_shared }) = self.sources.get(index) else {
            return Ok(Err(Absent::Missing));
        };
        let value = self
            .read(source)?
            .and_then(|value| if value.is_empty() { Err(Absent::Empty) } else { Ok(value) });
        if value.as_ref().is_ok_and(|value| value.len() > MOST_VALUE_BYTES) {
            return Err(MappingError::TooLong(source.clone()));
        }
        if *is_shared && let Some(read) = self.read.get_mut(index) {
            *read = Some(value.clone());
        }
        Ok(value)
    }

    /// Whether the value of the source with this index may exclude the request from limits. A
    /// method in lower case may not: the application may take it for another one.
    pub(super) fn may_skip(&self, index: usize) -> bool {
        let is_method =
            self.sources.get(index).is_some_and(|used| matches!(used.source, Source::Method));
        let method = self.request.method.unwrap_or_default();
        !is_method || !method.iter().any(u8::is_ascii_lowercase)
    }

    fn read(&self, source: &Source) -> Result<Value, MappingError> {
        let text = match source {
            Source::RemoteAddress => Ok(self.address()?.to_string().into_bytes()),
            Source::MaskedAddress(mask) => Ok(address::masked(self.address()?, *mask).into_bytes()),
            Source::Path => Ok(path::normalize(self.bounded(self.target()?.path, source)?)),
            Source::RawPath => match self.bounded(self.target()?.path, source)? {
                // RFC 9110, section 4.2.3: both are the same.
                b"" => Ok(b"/".to_vec()),
                path => Ok(path.to_vec()),
            },
            Source::Method => match filled(self.request.method) {
                Some(method) => Ok(self.bounded(method, source)?.to_ascii_uppercase()),
                None => return Err(MappingError::NoMethod),
            },
            Source::Host => match self.host()? {
                Some(host) => Ok(host::normalize(self.bounded(host, source)?)),
                None => Err(Absent::Missing),
            },
            Source::Scheme => match self.scheme()? {
                Some(scheme) => Ok(self.bounded(scheme, source)?.to_ascii_lowercase()),
                None => Err(Absent::Missing),
            },
            Source::Header(name) => self.header(name, source)?,
            Source::Query(name) => match self.target()?.query {
                Some(query) => query::parameter(query, name).ok_or(Absent::Missing),
                None => Err(Absent::Missing),
            },
            Source::Cookie(name) => self.cookie(name),
            Source::Claim { header, path } => {
                let encoded = self.header(header, source)?;
                encoded.and_then(|encoded| claim::find(&encoded, path))
            }
            Source::Constant(text) => return Ok(Ok(text.clone())),
        };
        Ok(text.map(Bytes::from))
    }

    fn address(&self) -> Result<IpAddr, MappingError> {
        address::client(self.client, self.request)
    }

    fn target(&self) -> Result<Target<'a>, MappingError> {
        match filled(self.request.target) {
            Some(target) => Target::split(target),
            None => Err(MappingError::NoUri),
        }
    }

    fn host(&self) -> Result<Option<&'a [u8]>, MappingError> {
        match filled(self.request.host) {
            None => Ok(self.absolute()?.authority),
            host => Ok(host),
        }
    }

    fn scheme(&self) -> Result<Option<&'a [u8]>, MappingError> {
        match filled(self.request.scheme) {
            None => Ok(self.absolute()?.scheme),
            scheme => Ok(scheme),
        }
    }

    /// The parts of an absolute target; of any other, none but the path and the query.
    fn absolute(&self) -> Result<Target<'a>, MappingError> {
        Target::split(self.request.target.unwrap_or_default())
    }

    /// `text`, before anything is made of it that may be several times as long.
    fn bounded<'t>(&self, text: &'t [u8], source: &Source) -> Result<&'t [u8], MappingError> {
        if text.len() > MOST_VALUE_BYTES {
            return Err(MappingError::TooLong(source.clone()));
        }
        Ok(text)
    }

    fn header(&self, name: &str, source: &Source) -> Result<Result<Vec<u8>, Absent>, MappingError> {
        let mut joined: Option<Vec<u8>> = None;
        let mut is_too_long = false;
        self.request.headers.visit(name, &mut |line| match &mut joined {
            _ if is_too_long => {}
            Some(joined) if joined.len() + line.len() >= MOST_VALUE_BYTES => is_too_long = true,
            Some(joined) => {
                joined.push(b',');
                joined.extend_from_slice(line);
            }
            None if line.len() > MOST_VALUE_BYTES => is_too_long = true,
            None => joined = Some(line.to_vec()),
        });
        if is_too_long {
            return Err(MappingError::TooLong(source.clone()));
        }
        Ok(joined.ok_or(Absent::Missing))
    }

    fn cookie(&self, name: &str) -> Result<Vec<u8>, Absent> {
        let mut found = None;
        self.request.headers.visit("cookie", &mut |line| {
            if found.is_none() {
                found = cookie::find(line, name);
            }
        });
        Ok(found.ok_or(Absent::Missing)?.to_vec())
    }
}

/// `text` unless it is empty: some protocols cannot tell that from a missing one.
fn filled(text: Option<&[u8]>) -> Option<&[u8]> {
    text.filter(|text| !text.is_empty())
}
