//! Drives a sandbox over HTTP, the way a worker does.

mod binary;
mod faults;
mod ledgers;
mod money;
mod shop;
mod steps;
mod support;
