//! Trust in other processes: reads certificates from files, and verifies those of servers
//! and of clients.
//!
//! A certificate is accepted if one of the trusted certificates issued it, or if it is
//! itself byte for byte one of them, as a self-signed certificate is. Names, purposes and
//! times are verified in either case.

mod authorities;
mod client;
mod client_verifier;
mod error;
pub mod grpc;
mod listed;
pub mod pem;
mod server_verifier;

pub use self::{
    authorities::Authorities,
    client::{ClientIdentity, ClientTls, ClientTlsError, ExpectedName},
    error::Problem,
};

#[cfg(test)]
mod tests;
