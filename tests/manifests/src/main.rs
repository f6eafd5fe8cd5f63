//! The manifests that `envoy/` ships, read by the real control planes, at work in a real Envoy.
//!
//! A deployment is a folder's files and the code that reads them where they are used: Envoy Gateway's own translation,
//! Istio's own discovery and agent. Each is given the files unchanged, an Envoy is started with what comes out, and the main
//! end-to-end cases ([`cases`]) run through it, before a fake WeChat behind TLS. Only what a test must own differs: addresses,
//! ports, the file of the .wasm and that of the trusted CA. What this leaves out is Kubernetes itself.

mod cases;
mod deployment;
mod gateway;
mod istio;
mod schemas;
mod wechat;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use clap::Parser;

use self::deployment::Deployment;

/// The shipped manifests, read by the real control planes, at work in a real Envoy.
#[derive(Debug, Parser)]
struct Args {
    /// Only these deployments; all of them without it.
    deployments: Vec<String>,
    /// Prints the names of the deployments.
    #[arg(long)]
    list: bool,
}

/// Every deployment, in the order in which they run.
fn all() -> Vec<Box<dyn Deployment>> {
    let mut all = gateway::deployments();
    all.extend(istio::deployments());
    all
}

// Envoy ends with the thread that started it, so that thread must be the main one.
#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manifests: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let all = all();
    if args.list {
        for deployment in &all {
            println!("{}", deployment.name());
        }
        return Ok(());
    }
    for name in &args.deployments {
        let is_known = all.iter().any(|deployment| deployment.name() == name);
        ensure!(is_known, "no deployment {name}: --list names them");
    }
    let wanted = |name: &str| {
        args.deployments.is_empty() || args.deployments.iter().any(|wanted| wanted == name)
    };
    for deployment in all.iter().filter(|deployment| wanted(deployment.name())) {
        let (name, begun) = (deployment.name(), Instant::now());
        if deployment.wants_a_world() && !istio::world::is_inside() {
            istio::world::enter(name).await?;
            continue;
        }
        println!("{name}: {}", deployment.about());
        cases::run(deployment.as_ref())
            .await
            .with_context(|| name.to_owned())?;
        println!("{name}: all good after {:.0?}", begun.elapsed());
    }
    Ok(())
}
