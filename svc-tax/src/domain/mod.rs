//! What tax is due: the rates ([`RateTable`]) and the calculation ([`calculate`]) after EN 16931.
//!
//! Pure: no clock, store, wire or randomness; the time and ids come in as arguments.

mod calculation;
mod day;
mod rate;
mod rate_table;
mod rejection;

pub use calculation::{
    Calculation, Computation, LINES_MAX, Line, LineResult, ShipTo, Subtotal, TOTAL_MAX, calculate,
};
pub use day::Day;
pub use rate::{Category, Rate};
pub use rate_table::{RateTable, RateTableError, Rates};
pub use rejection::Rejection;
