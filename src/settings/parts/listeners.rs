//! Who may ask, and where.

use std::time::Duration;

use super::no_tls;
use crate::{
    listen::Address,
    settings::{ListenerSettings, reader::Reader, value},
};

pub(super) fn listeners(reader: &mut Reader<'_>) -> ListenerSettings {
    let mut address = |host, port| Address {
        host: reader.value(host, value::host),
        port: reader.value(port, value::port),
    };
    let grpc = address("GRPC_HOST", "GRPC_PORT");
    let http = address("HOST", "PORT");
    let debug = address("DEBUG_HOST", "DEBUG_PORT");
    reader.optional("GRPC_SERVER_USE_TLS", no_tls);
    let unless_zero = |it: Duration| Some(it).filter(|it| !it.is_zero());
    ListenerSettings {
        grpc,
        http,
        debug,
        max_connections: reader.value("MAX_CONNECTIONS", |it| value::at_least(1, it)),
        max_age: unless_zero(reader.value("GRPC_MAX_CONNECTION_AGE", value::duration)),
        max_age_grace: unless_zero(reader.value("GRPC_MAX_CONNECTION_AGE_GRACE", value::duration)),
    }
}
