//! `--serve`: an Envoy with the plugin that goes on serving, and the lines to try on it.

use std::time::Duration;

use support::envoy::Envoy;
use tokio::signal::unix::SignalKind;

use super::stage::{self, Lifetime, WECHAT};
use super::steps::PATH;

/// How often it is looked whether Envoy still runs.
const LOOK: Duration = Duration::from_millis(500);

/// Serves until a signal ends the program: the real WeChat where the environment names an app, else the fake one.
pub(crate) async fn run(version: &str, workers: u32) -> Result<bool, String> {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (named("WECHAT_APPID"), named("WECHAT_SECRET")) {
        (Some(appid), Some(secret)) => {
            println!(
                "This calls the REAL WeChat, as app {appid} (from WECHAT_APPID and WECHAT_SECRET)."
            );
            let envoy = stage::real_envoy(version, workers, &appid, &secret).await?;
            explain(&envoy, None);
            watch(envoy).await
        }
        (None, None) => {
            println!(
                "This calls a FAKE WeChat: set WECHAT_APPID and WECHAT_SECRET for the real one."
            );
            let fake = stage::fake(Lifetime::REAL)?;
            let envoy = stage::demo_envoy(version, workers, fake.address()).await?;
            explain(&envoy, fake.control_address());
            watch(envoy).await
        }
        (Some(_), None) => {
            Err("WECHAT_APPID is set, WECHAT_SECRET is not: set both or none".to_owned())
        }
        (None, Some(_)) => {
            Err("WECHAT_SECRET is set, WECHAT_APPID is not: set both or none".to_owned())
        }
    }
}

/// Returns once the program was asked to end.
pub(crate) async fn signal() {
    let listen = |kind| tokio::signal::unix::signal(kind).expect("a signal handler");
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate()),
        listen(SignalKind::interrupt()),
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn explain(envoy: &Envoy, control: Option<std::net::SocketAddr>) {
    let (address, admin) = (envoy.address("wechat"), envoy.admin());
    println!(
        "\nEnvoy {} serves on http://{address} until Ctrl-C. Try:\n",
        envoy.version()
    );
    println!("  # a call without a token, to Envoy itself");
    println!("  curl -i http://{address}{PATH}\n");
    println!("  # the same as a service does it: WeChat's own URL, with Envoy as its proxy");
    println!("  curl -i -x http://{address} http://{WECHAT}{PATH}\n");
    println!("  # a POST, its body untouched");
    println!("  curl -i http://{address}/cgi-bin/openapi/quota/get -H 'content-type: application/json' -d '{{\"cgi_path\":\"{PATH}\"}}'\n");
    println!("  # the plugin's metrics");
    println!("  curl -s http://{admin}/stats/prometheus | grep ^wechat_token\n");
    if let Some(control) = control {
        let appid = stage::demo_appid();
        println!("  # what WeChat got last: there is the token");
        println!("  curl -s 'http://{control}/control/calls?tail=1'\n");
        println!("  # WeChat refuses the token from now on: the next call is renewed and sent again, unseen");
        println!("  curl -s http://{control}/control/revoke -d '{{\"appid\":\"{appid}\",\"errcode\":40001}}'\n");
    }
    println!("Envoy's log: {}", stage::log_of(envoy).display());
}

async fn watch(mut envoy: Envoy) -> Result<bool, String> {
    let mut looks = tokio::time::interval(LOOK);
    while envoy.is_running() {
        looks.tick().await;
    }
    Err(format!("Envoy ended by itself; its log:\n{}", envoy.logs()))
}
