pub mod check;
pub mod datapath;
pub mod media;

fn main() {}
