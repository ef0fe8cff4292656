//! One channel among peers that the tests play.

mod blocks;
mod fixture;
mod gaps;
mod members;
mod signs;
mod tree;
