//! Mistakes in the setup of a proxy or of the rules.

use std::{borrow::Cow, fmt};

use axum::http::{HeaderName, StatusCode};

use crate::{mapping::MappingError, metrics::CheckFault};

/// Why a check is answered with 400 or 404.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) fault: CheckFault,
    /// For the client, so it quotes nothing of the request or the rules.
    pub(super) text: Cow<'static, str>,
    /// For the log, if that may have more.
    cause: Option<MappingError>,
}

impl Mistake {
    pub(super) fn new(fault: CheckFault, text: impl Into<Cow<'static, str>>) -> Self {
        Self { fault, text: text.into(), cause: None }
    }

    /// 404 if the path asks for something that does not exist, else 400.
    pub(super) fn status(&self) -> StatusCode {
        match self.fault {
            CheckFault::UnknownDialect
            | CheckFault::UnexpectedPath
            | CheckFault::UnknownDomain
            | CheckFault::NoHttp => StatusCode::NOT_FOUND,
            CheckFault::NoDomain
            | CheckFault::Unreadable
            | CheckFault::RepeatedHeader
            | CheckFault::InvalidRequest
            | CheckFault::Unmapped(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The request cannot be mapped. `missing` is the header that would have the missing part.
    pub(super) fn unmapped(error: MappingError, missing: Option<&HeaderName>) -> Self {
        let fault = CheckFault::Unmapped(error.name());
        if let Some(header) = missing {
            return Self::new(fault, format!("{error} in {header}"));
        }
        let text = match error {
            MappingError::BadAddress { .. } => {
                "the address of the client in X-Forwarded-For is no IP address".into()
            }
            MappingError::TooLong(_) => "a part of the request is too long".into(),
            _ => error.to_string().into(),
        };
        Self { fault, text, cause: Some(error) }
    }
}

/// A mistake as the log shows it: with the path that the operator has written.
pub(super) struct LoggedMistake<'m> {
    pub(super) path: &'m str,
    pub(super) mistake: &'m Mistake,
}

impl LoggedMistake<'_> {
    /// The longest part of the path that is logged, in characters.
    const LONGEST_PATH: usize = 100;
}

impl fmt::Display for LoggedMistake<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mistake } = self;
        write!(f, "{path:.*}: ", Self::LONGEST_PATH)?;
        match &mistake.cause {
            Some(cause) => cause.fmt(f),
            None => f.write_str(&mistake.text),
        }
    }
}
