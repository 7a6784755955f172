//! The address of a Redis server, and the credentials for it.

use std::{fmt, path::PathBuf};

use crate::printable::printable_path;

/// The address that a Redis server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// A TCP port.
    Tcp {
        /// A host name or an IP address, without brackets.
        host: String,
        /// From 0 to 65535; 6379 if a URL has none.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A user and a password for AUTH.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The ACL user, or `None` for the default user.
    pub username: Option<String>,
    /// The password, or `None` to send no AUTH.
    pub password: Option<String>,
}

impl Login {
    /// Parses `password`, `user:password` or `:password`. The last form is for passwords
    /// that contain a colon.
    pub fn parse(text: &str) -> Self {
        let Some((username, password)) = text.split_once(':') else {
            return Self { username: None, password: Some(text.into()) };
        };
        let username = if username.is_empty() { None } else { Some(username.into()) };
        Self { username, password: Some(password.into()) }
    }

    /// A user without a password cannot authenticate.
    pub(super) fn lacks_password(&self) -> bool {
        self.username.is_some() && self.password.is_none()
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(&printable_path(path)),
        }
    }
}

impl fmt::Debug for Login {
    /// Omits the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}
