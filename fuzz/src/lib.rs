//! The checks of the fuzz targets. `tests/fuzz` runs them too, without coverage.

mod ext_authz;
pub mod grpc;
pub mod json;
pub mod manifest;
pub mod mapping;
mod properties;
pub mod rules;
