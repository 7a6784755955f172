//! The credentials, database and TLS settings of connections.

use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult,
    io::tcp::TcpSettings,
};

use super::{
    settings::{Login, RedisAddress, RedisSettings},
    tls::RedisTls,
};

#[derive(Clone, Debug)]
pub(super) struct ConnectOptions {
    login: Login,
    /// The setting that contains the password, for error messages.
    auth_setting: String,
    database: i64,
    tls: Option<RedisTls>,
}

impl ConnectOptions {
    /// The options for servers that hold counters.
    pub(super) fn for_servers(settings: &RedisSettings) -> Self {
        Self {
            login: settings.login.clone(),
            auth_setting: format!("{}_AUTH", settings.setting_prefix),
            database: settings.database,
            tls: settings.tls.clone(),
        }
    }

    pub(super) fn for_sentinels(settings: &RedisSettings) -> Self {
        Self {
            login: settings.sentinel_login.clone(),
            auth_setting: format!("{}_SENTINEL_AUTH", settings.setting_prefix),
            database: 0,
            tls: settings.tls.clone(),
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

    /// Creates a client for the server at `address`. Reads certificate files, and so blocks.
    pub(super) fn client(&self, address: &RedisAddress) -> RedisResult<Client> {
        let (host, port) = match address {
            RedisAddress::Tcp { host, port } => (host.clone(), *port),
            RedisAddress::Unix(path) => {
                return Client::open(self.connection_info(ConnectionAddr::Unix(path.clone()))?);
            }
        };
        let Some(tls) = &self.tls else {
            return Client::open(self.connection_info(ConnectionAddr::Tcp(host, port))?);
        };
        let certificates = tls.read().map_err(std::io::Error::other)?;
        let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        let client = Client::build_with_tls(self.connection_info(address)?, certificates)?;
        if !tls.skip_hostname_verification {
            return Ok(client);
        }
        let mut address = client.get_connection_info().addr().clone();
        address.set_danger_accept_invalid_hostnames(true);
        Client::open(self.connection_info(address)?)
    }

    fn connection_info(&self, address: ConnectionAddr) -> RedisResult<redis::ConnectionInfo> {
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
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = address.into_connection_info()?;
        Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
    }
}
