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

/// The most characters of an unknown name in a status.
const LONGEST_NAME: usize = 200;

/// The services of a listener.
#[derive(Default)]
pub(super) struct Services {
    router: Router,
    names: Vec<&'static str>,
}

impl Services {
    /// Adds a service with these methods.
    pub(super) fn add<S>(mut self, service: S, methods: &[&str]) -> Self
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
            let path = format!("/{}/{method}", S::NAME);
            self.router = self.router.route_service(&path, service.clone());
        }
        self.names.push(S::NAME);
        self
    }

    /// The routes to all methods.
    pub(super) fn routes(self) -> Routes {
        let names = Arc::<[_]>::from(self.names);
        let unknown = move |uri: Uri| ready(unimplemented(uri.path(), &names).into_http::<Body>());
        Routes::from(self.router.fallback(unknown)).prepare()
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
