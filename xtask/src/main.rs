//! `cargo xtask codegen` and whatever chores come after it.

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Chores of the Selvedge repository")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Generates messages and services from proto/ into the crates that hold them.
    Codegen,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Codegen => xtask::codegen::write(&xtask::codegen::workspace_root()),
    }
}
