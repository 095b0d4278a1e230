//! The agent's binary: parse, run, print the error chain, choose the exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    shipper::cli::main()
}
