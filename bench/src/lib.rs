pub mod kernel;
pub mod testrun;
