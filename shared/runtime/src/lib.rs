//! What every binary starts with, written once: settings, telemetry, signals, HTTP serving, API keys.
//!
//! Business logic never lives here; nothing below `main` reads the environment.

pub mod admin;
pub mod auth;
pub mod build;
pub mod crash;
pub mod http;
pub mod keys;
pub mod meters;
pub mod probe;
pub mod problem;
pub mod settings;
pub mod signals;
pub mod telemetry;
pub mod trace;
