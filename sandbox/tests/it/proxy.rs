//! The fault proxy over real TCP: every kind of fault, its evidence, and the control API.

mod control;
mod delays;
mod losses;
mod passing;
mod resets;
mod support;
