pub mod datapath;
pub mod media;

fn main() {}
