//! Validates objects by the tables in `schemas`.

pub mod ecs;
pub mod ocsf;
