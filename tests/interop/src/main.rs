//! Services with unmodified WeChat libraries beside the mesh, on one Redis and the classic endpoint, where each token call
//! ends the token before. Both sides share one token per app, whoever made it, and nobody sees a 40001.
//!
//! Each library has an app of its own, and all of them read the token of one more app. The phases are those of a migration:
//!
//! 1. *Alone*: the libraries make their own tokens.
//! 2. *Joined*: two Envoys come, and take over every app's token without a call.
//! 3. *Together*: several rotations, made by whoever is first.
//! 4. *By themselves*: each library's key is lost, so it makes a call of its own; the mesh follows.
//! 5. *Refused*: WeChat refuses the token, and both sides find a new one.
//!
//! Then [`https`]: the same libraries with nothing but the mesh, which they call as they call WeChat.

mod cases;
mod https;
mod mesh;
mod neighbour;
mod phases;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Services with unmodified WeChat libraries beside the mesh.
#[derive(Debug, Parser)]
struct Args {
    /// Only these libraries; all of them without it.
    libraries: Vec<String>,
    /// Rotations in the phase "together".
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rotations: u64,
    /// Only this part; both without it.
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Beside the mesh, on one Redis.
    Redis,
    /// Through the mesh, over https.
    Https,
}

// Envoy ends with the thread that started it, so that thread must be the main one.
#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let cases: Vec<_> = cases::CASES
        .into_iter()
        .filter(|case| {
            args.libraries.is_empty() || args.libraries.iter().any(|name| name == case.title)
        })
        .collect();
    match run(&cases, &args).await {
        Ok(()) => {
            if !https::is_inside() {
                println!("interop: one token for the mesh and all its neighbours");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("interop: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cases: &[cases::Case], args: &Args) -> anyhow::Result<()> {
    if args.only != Some(Part::Https) {
        phases::run(cases, args.rotations).await?;
    }
    if args.only != Some(Part::Redis) {
        https::run(args.rotations).await?;
    }
    Ok(())
}
