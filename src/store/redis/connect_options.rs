//! The credentials, database and TLS settings of connections.

use std::sync::Arc;

use redis::RedisConnectionInfo;
use rustls::ClientConfig;

use super::{
    reply_scanner::MostOfReply,
    settings::{Login, RedisServers, RedisSettings},
    slots::SLOT_COUNT,
};
use crate::trust::{ClientTls, ClientTlsError};

/// The largest reply of a server. The replies to scripts are much smaller: a list of a few
/// values for each of the charges, of which a full batch has 256.
const MOST_OF_REPLY: MostOfReply = MostOfReply { bytes: 1 << 20, values: 8 << 10 };
/// The largest reply of a node of a cluster. CLUSTER SLOTS takes some MiB if each of the
/// 16,384 slots is a range of its own. A range of three nodes has 24 values.
const MOST_OF_CLUSTER_REPLY: MostOfReply =
    MostOfReply { bytes: 8 << 20, values: 24 * SLOT_COUNT as u64 };

#[derive(Clone, Debug)]
pub(super) struct ConnectOptions {
    login: Login,
    /// The setting that contains the password, for error messages.
    auth_setting: String,
    database: i64,
    tls: Option<ClientTls>,
    pub(super) most_of_reply: MostOfReply,
}

impl ConnectOptions {
    /// The options for servers that hold counters.
    pub(super) fn for_servers(settings: &RedisSettings) -> Self {
        Self {
            login: settings.login.clone(),
            auth_setting: format!("{}_AUTH", settings.setting_prefix),
            database: settings.database,
            tls: settings.tls.clone(),
            most_of_reply: match settings.servers {
                RedisServers::Cluster(_) => MOST_OF_CLUSTER_REPLY,
                _ => MOST_OF_REPLY,
            },
        }
    }

    pub(super) fn for_sentinels(settings: &RedisSettings) -> Self {
        Self {
            login: settings.sentinel_login.clone(),
            auth_setting: format!("{}_SENTINEL_AUTH", settings.setting_prefix),
            database: 0,
            tls: settings.tls.clone(),
            most_of_reply: MOST_OF_REPLY,
        }
    }

    pub(super) fn auth_setting(&self) -> &str {
        &self.auth_setting
    }

    pub(super) const fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns a possible reason if a server closes the connection during the handshake.
    pub(super) fn disconnect_hint(&self) -> Option<&'static str> {
        if self.login.username.is_none() && self.database == 0 {
            return None;
        }
        Some("a proxy such as twemproxy supports neither users nor databases other than 0")
    }

    /// Reads the certificate files, and so blocks. `None` without TLS. An error names the
    /// file.
    pub(super) fn tls_config(&self) -> Result<Option<Arc<ClientConfig>>, ClientTlsError> {
        match &self.tls {
            Some(tls) => Ok(Some(Arc::new(tls.config()?))),
            None => Ok(None),
        }
    }

    /// The parameters of AUTH and SELECT.
    pub(super) fn login(&self) -> RedisConnectionInfo {
        // Proxies close the connection after a command that they do not support, such as
        // CLIENT SETINFO.
        let mut redis =
            RedisConnectionInfo::default().set_db(self.database).set_skip_set_lib_name();
        if let Some(username) = &self.login.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &self.login.password {
            redis = redis.set_password(password);
        }
        redis
    }
}
