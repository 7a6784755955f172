//! Which server to connect to, and how.

use std::{fmt, sync::Arc, time::Duration};

use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult,
    io::tcp::TcpSettings,
};
use tokio::time::sleep;

use super::{
    probe::Routing,
    sentinels::Sentinels,
    settings::{Login, RedisAddress, RedisServers, RedisSettings},
    tls::RedisTls,
};

/// How often the Sentinels are asked.
const ASK: Duration = Duration::from_millis(500);

/// What to connect to.
#[derive(Debug)]
pub(super) struct Target {
    place: Place,
    pub(super) access: Access,
    /// What it has to be fit for; none in a cluster, where no script needs more than
    /// one slot.
    pub(super) routing: Option<Arc<Routing>>,
}

#[derive(Debug)]
enum Place {
    Fixed(RedisAddress),
    Guarded(Box<Sentinels>),
}

/// How servers let us in.
#[derive(Clone, Debug)]
pub(super) struct Access {
    login: Login,
    /// The setting that has the password.
    setting: String,
    database: i64,
    tls: Option<RedisTls>,
}

impl Target {
    /// The server at `address`.
    pub(super) fn fixed(address: RedisAddress, settings: &RedisSettings) -> Self {
        let cluster = matches!(settings.servers, RedisServers::Cluster(_));
        let routing = (!cluster).then(|| Arc::new(Routing::new(settings)));
        Self { place: Place::Fixed(address), access: Access::of(settings), routing }
    }

    /// The server that Sentinels call `master`.
    pub(super) fn guarded_by(
        master: String,
        sentinels: &[RedisAddress],
        settings: &RedisSettings,
    ) -> Self {
        let access = Access {
            login: settings.sentinel_login.clone(),
            setting: format!("{}_SENTINEL_AUTH", settings.setting_prefix),
            database: 0,
            ..Access::of(settings)
        };
        let place = Place::Guarded(Box::new(Sentinels::new(master, access, sentinels)));
        let routing = Arc::new(Routing::new(settings));
        Self { place, access: Access::of(settings), routing: Some(routing) }
    }

    /// Whether it may be another one at any time.
    pub(super) const fn guarded(&self) -> bool {
        matches!(self.place, Place::Guarded(_))
    }

    /// Where it is now.
    pub(super) async fn find(&mut self, patience: Duration) -> Result<RedisAddress, String> {
        match &mut self.place {
            Place::Fixed(address) => Ok(address.clone()),
            Place::Guarded(sentinels) => sentinels.find(patience, false).await,
        }
    }

    /// Ends when it is not at `address` any more.
    pub(super) async fn replaced(&mut self, address: &RedisAddress, patience: Duration) {
        let Place::Guarded(sentinels) = &mut self.place else {
            return std::future::pending().await;
        };
        loop {
            sleep(ASK).await;
            if sentinels.find(patience, true).await.is_ok_and(|it| it != *address) {
                return;
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Fixed(address) => address.fmt(f),
            Place::Guarded(sentinels) => write!(f, "the master {}", sentinels.master()),
        }
    }
}

impl Access {
    pub(super) fn of(settings: &RedisSettings) -> Self {
        let RedisSettings { login, database, tls, setting_prefix: setting, .. } = settings.clone();
        Self { login, setting: format!("{setting}_AUTH"), database, tls }
    }

    /// Which setting has the password.
    pub(super) fn setting(&self) -> &str {
        &self.setting
    }

    /// Whether servers have to speak TLS.
    pub(super) const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// What a server may not know of, if it hangs up.
    pub(super) fn hint(&self) -> Option<&'static str> {
        let special = self.login.username.is_some() || self.database != 0;
        let hint = "a proxy such as twemproxy knows no users and no database but 0";
        special.then_some(hint)
    }

    /// A client of the server at `address`. Reads the certificates, and so blocks.
    pub(super) fn client(&self, address: &RedisAddress) -> RedisResult<Client> {
        // Proxies hang up on a command that they do not know.
        let mut redis =
            RedisConnectionInfo::default().set_db(self.database).set_skip_set_lib_name();
        if let Some(username) = &self.login.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &self.login.password {
            redis = redis.set_password(password);
        }
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = |address: ConnectionAddr| {
            let info = address.into_connection_info()?.set_redis_settings(redis.clone());
            RedisResult::Ok(info.set_tcp_settings(tcp.clone()))
        };
        let (host, port) = match (address, &self.tls) {
            (RedisAddress::Unix(path), _) => {
                return Client::open(info(ConnectionAddr::Unix(path.clone()))?);
            }
            (RedisAddress::Tcp { host, port }, None) => {
                return Client::open(info(ConnectionAddr::Tcp(host.clone(), *port))?);
            }
            (RedisAddress::Tcp { host, port }, Some(_)) => (host.clone(), *port),
        };
        let tls = self.tls.clone().unwrap_or_default();
        let certificates = tls.read().map_err(std::io::Error::other)?;
        let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        let client = Client::build_with_tls(info(address)?, certificates)?;
        if !tls.skip_hostname_verification {
            return Ok(client);
        }
        let mut address = client.get_connection_info().addr().clone();
        address.set_danger_accept_invalid_hostnames(true);
        Client::open(info(address)?)
    }
}
