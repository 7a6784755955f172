//! Random rules, and random requests for them: counters in memory and in every kind of
//! Redis lead to the same decisions.

mod calls;
mod comparison;
mod regressions;
mod rules;
