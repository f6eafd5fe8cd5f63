//! `demo`: the plugin at work in a real Envoy, told step by step; with `--serve`, an Envoy to play with.

// Beside the library and not in it: nobody else needs them.
#[path = "../demo/load.rs"]
mod load;
#[path = "../demo/serve.rs"]
mod serve;
#[path = "../demo/stage.rs"]
mod stage;
#[path = "../demo/steps.rs"]
mod steps;
#[path = "../demo/tell.rs"]
mod tell;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

use self::stage::{Lifetime, Stage, Urls};
use self::steps::Plan;
use self::tell::Teller;

/// Shows the plugin at work: a real Envoy with the shipped demo configuration in front of a strict fake WeChat. Ends
/// with 0 only if every check held.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    /// Keep serving on port 10000 and print what to try: the real WeChat with WECHAT_APPID and WECHAT_SECRET set, the
    /// fake one without
    #[arg(long, conflicts_with = "against")]
    serve: bool,
    /// Run the checks against an Envoy that runs already, such as http://127.0.0.1:10000
    #[arg(long, value_name = "URL", requires_all = ["control", "admin"])]
    against: Option<String>,
    /// Its fake WeChat's control API
    #[arg(long, value_name = "URL", requires = "against")]
    control: Option<String>,
    /// Its admin API, or its listener for metrics
    #[arg(long, value_name = "URL", requires = "against")]
    admin: Option<String>,
    /// A shell command that restarts it, to see its very first calls; left out without
    #[arg(long, value_name = "COMMAND", requires = "against")]
    restart: Option<String>,
    /// The Envoy to start, a version under .tools/envoy
    #[arg(long, value_name = "VERSION", default_value = "1.40.0")]
    envoy: String,
    /// Its worker threads
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// First calls at once
    #[arg(long, default_value_t = 1_000)]
    calls: usize,
    /// Rotations of the token to see under load
    #[arg(long, default_value_t = 3)]
    rotations: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    allow_many_connections();
    let serve = options.serve;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(async {
        // A signal ends the run by dropping it, so that Envoy never outlives the program.
        tokio::select! {
            outcome = run(options) => outcome,
            () = serve::signal() => if serve { Ok(true) } else { Err("interrupted".to_owned()) },
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<bool, String> {
    if options.serve {
        return serve::run(&options.envoy, options.workers).await;
    }
    let plan = Plan {
        appid: stage::demo_appid(),
        calls: options.calls,
        rotations: options.rotations,
    };
    let mut stage = match (options.against, options.control, options.admin) {
        (Some(envoy), Some(control), Some(admin)) => {
            println!("The plugin in the Envoy at {envoy}, in front of the fake WeChat that {control} controls.");
            let urls = [envoy, control, admin].map(|url| url.trim_end_matches('/').to_owned());
            let [envoy, control, admin] = urls;
            let urls = Urls {
                envoy,
                control,
                admin,
            };
            let stage = Stage::running(urls, options.restart);
            stage.wait_until_ready().await?;
            stage
        }
        _ => {
            let (version, workers) = (&options.envoy, options.workers);
            println!("The plugin in a real Envoy {version} with {workers} workers and the shipped envoy/envoy.demo.yaml,");
            println!("in front of a fake WeChat that keeps WeChat's rules and counts every call.");
            Stage::start(version, workers, Lifetime::SHORT).await?
        }
    };
    let mut tell = Teller::default();
    steps::play(&mut stage, &plan, &mut tell).await?;
    Ok(tell.end())
}

/// A thousand callers, Envoy's two sides and the fake WeChat need more than the usual 1,024 files.
fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised the herd's calls fail with that reason.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
