//! `fake-wechat`: the strict fake WeChat as a program, driven over its control address.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use support::wechat::{parse_faults, App, ErrcodeStyle, ErrorStyle, FakeWeChat, Fault, Settings};
use tokio::signal::unix::{signal, SignalKind};

/// A strict fake WeChat: both token endpoints with WeChat's rules, business calls that say what arrived, scripted
/// faults, and a report of everything seen under http://CONTROL/control/report.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    /// Address of WeChat's API
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address of the control API (/control/report, calls, faults, gate, revoke, app, reset, secrets); keep it private
    #[arg(long, default_value = "127.0.0.1:8081")]
    control: SocketAddr,
    /// An app that exists, as APPID:SECRET; the same appid again adds a second valid secret
    #[arg(long, value_name = "APPID:SECRET", required = true, value_parser = parse_app)]
    app: Vec<(String, String)>,
    /// How long a token lives; WeChat's windows of 300 s and 30 s shrink in proportion
    #[arg(long, default_value = "7200s", value_parser = humantime::parse_duration)]
    token_lifetime: Duration,
    /// How long old and new token overlap, in place of 300 s in proportion
    #[arg(long, value_parser = humantime::parse_duration)]
    overlap: Option<Duration>,
    /// Characters in a token, 32 to 512
    #[arg(long, default_value_t = 136)]
    token_length: usize,
    /// Host that may arrive (repeatable); another one counts as a violation
    #[arg(long)]
    host: Vec<String>,
    /// Scripted faults: JSON, or a file of it, such as {"on":"token","action":{"latency":{"ms":500}},"times":2}
    #[arg(long, value_name = "JSON|FILE", value_parser = read_faults)]
    faults: Option<Script>,
    /// Errors as text/plain
    #[arg(long)]
    text_plain_errors: bool,
    /// Errors with the errcode as a text
    #[arg(long)]
    text_errcodes: bool,
}

/// A script of faults; a type of its own, because clap takes a `Vec` for a repeatable option.
#[derive(Clone, Debug)]
struct Script(Vec<Fault>);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    let appids: BTreeSet<String> = options.app.iter().map(|app| app.0.clone()).collect();
    // Before the ready line, which may be answered by a signal at once; and as process 1 of a container, no signal
    // would end the program by itself.
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
    let fake = match FakeWeChat::try_start(settings(options)) {
        Ok(fake) => fake,
        Err(error) => {
            eprintln!("fake-wechat: cannot listen: {error}");
            return ExitCode::FAILURE;
        }
    };
    let control = fake
        .control_address()
        .map_or_else(String::new, |address| address.to_string());
    println!(
        "fake-wechat: ready on {}, control on {control}, {} app(s)",
        fake.address(),
        appids.len()
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    ExitCode::SUCCESS
}

fn settings(options: Options) -> Settings {
    let mut settings = Settings {
        listen: options.listen,
        control: Some(options.control),
        token_length: options.token_length,
        hosts: options
            .host
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect(),
        faults: options.faults.map_or_else(Vec::new, |script| script.0),
        error_style: ErrorStyle {
            text_plain: options.text_plain_errors,
            errcode: if options.text_errcodes {
                ErrcodeStyle::Text
            } else {
                ErrcodeStyle::Number
            },
        },
        ..Settings::default().with_token_lifetime(options.token_lifetime)
    };
    if let Some(overlap) = options.overlap {
        settings.overlap = overlap;
    }
    for (appid, secret) in options.app {
        match settings.apps.iter_mut().find(|app| app.appid == appid) {
            Some(app) => app.secrets.push(secret),
            None => settings.apps.push(App::new(&appid, &secret)),
        }
    }
    settings
}

fn parse_app(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((appid, secret)) if !appid.is_empty() && !secret.is_empty() => {
            Ok((appid.to_owned(), secret.to_owned()))
        }
        _ => Err("must be APPID:SECRET, both not empty".to_owned()),
    }
}

fn read_faults(text: &str) -> Result<Script, String> {
    let json = if text.trim_start().starts_with(['{', '[']) {
        text.as_bytes().to_vec()
    } else {
        std::fs::read(text).map_err(|error| format!("{text}: {error}"))?
    };
    parse_faults(&json).map(Script)
}
