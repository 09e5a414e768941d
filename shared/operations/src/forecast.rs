//! The forecast of a replay: what would become of each dead letter, by this build's saga core and the harmless looks of the
//! downstream contract. Nothing is changed by it: no order, no dead letter, no message, nothing at a service.

mod document;
mod earlier;
mod looks;
mod predict;
mod summary;
#[cfg(test)]
mod tests;
mod verdict;
mod walk;

pub use predict::{ForecastError, forecast};
pub use summary::{ForecastGroup, summary};
pub use verdict::{Failing, Forecast};
