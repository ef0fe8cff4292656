//! Chores of this repository that deserve more than a shell line.

pub mod codegen;
