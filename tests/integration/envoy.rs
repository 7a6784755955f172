//! A real Envoy in front of the service, driven by HTTP.

mod authorization;
mod counting;
mod encrypted;
mod example;
mod failure;
mod front;
mod headers;
mod hits;
mod live;
mod overrides;
mod restart;
mod tcp;
mod tracing;
