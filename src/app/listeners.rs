//! The listeners of the service.

use tracing::info;

use crate::{
    listen::{Dialer, ListenError, Listener, Protocol, Purpose},
    net::{Address, HostPort},
    settings::{ListenerSettings, PrometheusSettings},
};

const GRPC: Purpose = Purpose { name: "gRPC", settings: "GRPC_HOST and GRPC_PORT" };
const GRPC_SOCKET: Purpose = Purpose { name: "gRPC", settings: "GRPC_UDS" };
const HTTP: Purpose = Purpose { name: "HTTP", settings: "HOST and PORT" };
const DEBUG: Purpose = Purpose { name: "debugging", settings: "DEBUG_HOST and DEBUG_PORT" };
const PROMETHEUS: Purpose = Purpose { name: "Prometheus", settings: "PROMETHEUS_ADDR" };

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
    ) -> Result<Self, ListenError> {
        let max = settings.max_connections;
        let http = Address::Tcp(settings.http);
        let debug = Address::Tcp(settings.debug);
        let purpose = match settings.grpc {
            Address::Tcp(_) => GRPC,
            Address::Unix(_) => GRPC_SOCKET,
        };
        let grpc = Listener::bind(purpose, &settings.grpc, Protocol::Http2, max).await?;
        let http = HttpListeners {
            main: Listener::bind(HTTP, &http, Protocol::Http, max).await?,
            debug: Listener::bind(DEBUG, &debug, Protocol::Http, max).await?,
            prometheus: match prometheus {
                Some(prometheus) => Some(PrometheusListener::bind(&prometheus, max).await?),
                None => None,
            },
        };
        log_address("grpc", &grpc);
        log_address("http", &http.main);
        log_address("debug", &http.debug);
        if let Some(prometheus) = &http.prometheus {
            log_address("prometheus", &prometheus.listener);
        }
        Ok(Self { grpc, http })
    }

    /// Listeners without sockets, for clients in this process. There is none for
    /// Prometheus.
    pub fn in_process(settings: &ListenerSettings) -> (Self, Dialers) {
        let max = settings.max_connections;
        let (grpc, grpc_dialer) = Listener::in_process(Protocol::Http2, max);
        let (http, http_dialer) = Listener::in_process(Protocol::Http, max);
        let (debug, debug_dialer) = Listener::in_process(Protocol::Http, max);
        let dialers = Dialers { grpc: grpc_dialer, http: http_dialer, debug: debug_dialer };
        (Self { grpc, http: HttpListeners { main: http, debug, prometheus: None } }, dialers)
    }
}

fn log_address(name: &str, listener: &Listener) {
    if let Some(address) = listener.address() {
        info!(listener = name, %address, "listening");
    }
}

impl PrometheusListener {
    /// Falls back from `::` to `0.0.0.0` on hosts without IPv6. If the port is taken, the
    /// error names the address as it was asked for.
    async fn bind(settings: &PrometheusSettings, max: usize) -> Result<Self, ListenError> {
        let path = settings.path.clone();
        let address = Address::Tcp(settings.address.clone());
        let error = match Listener::bind(PROMETHEUS, &address, Protocol::Http, max).await {
            Ok(listener) => return Ok(Self { listener, path }),
            Err(error) => error,
        };
        if error.is_in_use() || settings.address.host != "::" {
            return Err(error);
        }
        let host = "0.0.0.0".to_owned();
        let address = Address::Tcp(HostPort { host, port: settings.address.port });
        let listener = Listener::bind(PROMETHEUS, &address, Protocol::Http, max).await?;
        Ok(Self { listener, path })
    }
}
