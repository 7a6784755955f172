//! Finds the method of a call. Calls of unknown methods get the statuses of grpc-go, which
//! the reference service uses.

use std::{convert::Infallible, future::ready, sync::Arc};

use axum::{
    Router,
    http::{Request, Uri},
    response::IntoResponse,
};
use tonic::{Status, body::Body, server::NamedService, service::Routes};
use tower::{Service, ServiceExt};

use super::method::{Kinds, Method};

/// The most characters of an unknown name in a status.
const LONGEST_NAME: usize = 200;

/// The services of a listener.
#[derive(Debug, Default)]
pub struct Services {
    router: Router,
    names: Vec<&'static str>,
    kinds: Kinds,
}

/// The routes to all methods, and their kinds.
#[derive(Clone, Debug)]
pub(super) struct Methods {
    pub(super) routes: Routes,
    pub(super) kinds: Arc<Kinds>,
}

impl Services {
    /// Adds a service with these methods.
    #[must_use]
    pub fn add<S>(mut self, service: S, methods: &[Method]) -> Self
    where
        S: Service<Request<Body>, Error = Infallible, Response: IntoResponse, Future: Send>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let service =
            service.map_request(|request: Request<axum::body::Body>| request.map(Body::new));
        for method in methods {
            let path = format!("/{}/{}", S::NAME, method.name);
            self.router = self.router.route_service(&path, service.clone());
            self.kinds.add(path, method.kind);
        }
        self.names.push(S::NAME);
        self
    }

    /// The methods of all services.
    pub(super) fn methods(self) -> Methods {
        let names = Arc::<[_]>::from(self.names);
        let unknown = move |uri: Uri| ready(unimplemented(uri.path(), &names).into_http::<Body>());
        let routes = Routes::from(self.router.fallback(unknown)).prepare();
        Methods { routes, kinds: Arc::new(self.kinds) }
    }
}

fn unimplemented(path: &str, services: &[&str]) -> Status {
    let name = path.strip_prefix('/').unwrap_or(path);
    let Some((service, method)) = name.rsplit_once('/') else {
        return Status::unimplemented(format!("malformed method name: \"{path:.LONGEST_NAME$}\""));
    };
    Status::unimplemented(if services.contains(&service) {
        format!("unknown method {method:.LONGEST_NAME$} for service {service}")
    } else {
        format!("unknown service {service:.LONGEST_NAME$}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_reported_as_by_the_reference() {
        for (path, expected) in [
            ("/a.B/Get", "unknown method Get for service a.B"),
            ("/a.B/", "unknown method  for service a.B"),
            ("/a.B/Get/x", "unknown service a.B/Get"),
            ("/a.b/Get", "unknown service a.b"),
            ("/", "malformed method name: \"/\""),
            ("/a.B", "malformed method name: \"/a.B\""),
        ] {
            assert_eq!(unimplemented(path, &["a.B"]).message(), expected);
        }
        let long = "x".repeat(10_000);
        for path in [format!("/{long}"), format!("/{long}/y"), format!("/a.B/{long}")] {
            assert!(unimplemented(&path, &["a.B"]).message().len() < 250);
        }
    }
}
