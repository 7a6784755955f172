//! The listeners of the service.

use std::sync::Arc;

use tracing::{info, warn};

use crate::{
    admin::AdminSettings,
    listen::{ConnectionBounds, Dialer, ListenError, Listener, Purpose},
    metrics::Metrics,
    net::{Address, HostPort},
    settings::{ListenerSettings, PrometheusSettings},
};

/// One open listener for each port of the service.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC.
    pub grpc: Listener,
    /// HTTP.
    pub http: HttpListeners,
}

/// The listeners for HTTP.
#[derive(Debug)]
pub struct HttpListeners {
    /// Decisions, health and metrics.
    pub main: Listener,
    /// Pages for operators.
    pub debug: Listener,
    /// The separate port for Prometheus, if there is one.
    pub prometheus: Option<PrometheusListener>,
    /// The separate port for health checks, if there is one.
    pub probes: Option<Listener>,
    /// The admin API, if somebody can have a token.
    pub admin: Option<Listener>,
}

/// The separate port for Prometheus.
#[derive(Debug)]
pub struct PrometheusListener {
    /// The listener.
    pub listener: Listener,
    /// The path of the metrics.
    pub path: String,
}

/// Connects to [listeners within the process](Listeners::in_process).
#[derive(Clone, Debug)]
pub struct Dialers {
    /// gRPC.
    pub grpc: Dialer,
    /// HTTP: decisions, health and metrics.
    pub http: Dialer,
    /// Pages for operators.
    pub debug: Dialer,
    /// The admin API.
    pub admin: Option<Dialer>,
}

impl Listeners {
    /// Opens all ports, so that a port in use is reported before any is served.
    ///
    /// # Errors
    ///
    /// The first port that cannot be opened.
    pub async fn bind(
        settings: ListenerSettings,
        prometheus: Option<PrometheusSettings>,
        admin: &AdminSettings,
    ) -> Result<Self, ListenError> {
        let bounds = settings.bounds;
        let http = Address::Tcp(settings.http);
        let debug = Address::Tcp(settings.debug);
        let grpc = Listener::bind(Purpose::Grpc, &settings.grpc, bounds).await?;
        let http = HttpListeners {
            main: Listener::bind(Purpose::Http, &http, bounds).await?,
            debug: Listener::bind(Purpose::Debug, &debug, bounds).await?,
            prometheus: match prometheus {
                Some(PrometheusSettings { address, path }) => {
                    let listener = bind_any(Purpose::Prometheus, address, bounds).await?;
                    Some(PrometheusListener { listener, path })
                }
                None => None,
            },
            probes: match settings.probes {
                Some(address) => Some(bind_any(Purpose::Probes, address, bounds).await?),
                None => None,
            },
            admin: bind_admin(admin, bounds).await?,
        };
        let listeners = Self { grpc, http };
        for listener in listeners.all() {
            if let Some(address) = listener.address() {
                info!(listener = listener.purpose().label(), %address, "listening");
            }
        }
        Ok(listeners)
    }

    fn all(&self) -> impl Iterator<Item = &Listener> {
        let HttpListeners { main, debug, prometheus, probes, admin } = &self.http;
        let prometheus = prometheus.as_ref().map(|it| &it.listener);
        [&self.grpc, main, debug].into_iter().chain(prometheus).chain(probes).chain(admin)
    }

    /// Reports the connections of all listeners to `metrics` from now on.
    pub(super) fn report_to(&self, metrics: &Arc<Metrics>) {
        for listener in self.all() {
            listener.report_to(Arc::clone(metrics));
        }
    }

    /// Listeners without sockets, for clients in this process. There are none for
    /// Prometheus and probes.
    pub fn in_process(settings: &ListenerSettings, admin: &AdminSettings) -> (Self, Dialers) {
        let bounds = settings.bounds;
        let (grpc, grpc_dialer) = Listener::in_process(Purpose::Grpc, bounds);
        let (http, http_dialer) = Listener::in_process(Purpose::Http, bounds);
        let (debug, debug_dialer) = Listener::in_process(Purpose::Debug, bounds);
        let admin = admin.is_open().then(|| Listener::in_process(Purpose::Admin, bounds));
        let (admin, admin_dialer) = admin.unzip();
        let dialers = Dialers {
            grpc: grpc_dialer,
            http: http_dialer,
            debug: debug_dialer,
            admin: admin_dialer,
        };
        let http = HttpListeners { main: http, debug, prometheus: None, probes: None, admin };
        (Self { grpc, http }, dialers)
    }
}

/// The listener of the admin API, if somebody can have a token. A port in use is an error only if
/// the settings ask for the API: a terminal shows its token without being asked.
async fn bind_admin(
    admin: &AdminSettings,
    bounds: ConnectionBounds,
) -> Result<Option<Listener>, ListenError> {
    if !admin.is_open() {
        return Ok(None);
    }
    let address = Address::Tcp(admin.address.clone());
    match Listener::bind(Purpose::Admin, &address, bounds).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.is_in_use() && !admin.is_wanted() => {
            warn!("the admin API stays closed: another process uses {address} (ADMIN_PORT)");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Falls back from `::` to `0.0.0.0` on hosts without IPv6. If the port is taken, the error
/// names the address as it was asked for.
async fn bind_any(
    purpose: Purpose,
    address: HostPort,
    bounds: ConnectionBounds,
) -> Result<Listener, ListenError> {
    let port = address.port;
    let falls_back = address.host == "::";
    let error = match Listener::bind(purpose, &Address::Tcp(address), bounds).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    if error.is_in_use() || !falls_back {
        return Err(error);
    }
    let address = Address::Tcp(HostPort { host: "0.0.0.0".to_owned(), port });
    Listener::bind(purpose, &address, bounds).await
}
