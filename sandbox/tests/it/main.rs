//! Drives a sandbox over HTTP, the way a worker does, and a fault proxy over TCP.

mod binary;
mod disobedience;
mod faults;
mod ledgers;
mod money;
mod outlook;
mod proxy;
mod shop;
mod steps;
mod support;
