//! The program `fake-wechat`: its ready line, its options, its end.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{kill_process, Pid, Signal};
use support::client::Client;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fake-wechat"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    program(args).output().expect("it starts")
}

#[tokio::test]
async fn it_says_when_it_is_ready_serves_and_ends_on_sigterm() {
    let fault = r#"{"on":"business","action":{"status":{"code":502}},"times":1}"#;
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--control",
        "127.0.0.1:0",
        "--app",
        "wx1:one",
        "--app",
        "wx1:two",
    ];
    let options = [
        "--token-lifetime",
        "72s",
        "--text-plain-errors",
        "--faults",
        fault,
    ];
    let mut child = Program(
        program(&[&args[..], &options[..]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut ready = String::new();
    BufReader::new(child.0.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let words: Vec<_> = ready.split([' ', ',']).collect();
    let after = |word: &str| {
        words[words.iter().position(|found| *found == word).expect(&ready) + 1..].join(" ")
    };
    let api = after("ready").split(' ').nth(1).unwrap().to_owned();
    let control = after("control").split(' ').nth(1).unwrap().to_owned();
    assert!(ready.ends_with("1 app(s)\n"), "{ready}");
    let client = Client::new();
    for secret in ["one", "two"] {
        let path = format!("cgi-bin/token?grant_type=client_credential&appid=wx1&secret={secret}");
        let answer = client.get(&format!("http://{api}/{path}")).await.unwrap();
        assert_eq!(answer.json()["expires_in"], 72, "{secret}");
    }
    assert_eq!(
        client
            .get(&format!("http://{api}/wxa/x"))
            .await
            .unwrap()
            .status,
        502
    );
    let refused = client.get(&format!("http://{api}/wxa/x")).await.unwrap();
    assert_eq!(
        (refused.errcode(), refused.header("content-type")),
        (Some(41001), Some("text/plain"))
    );
    let report = client
        .get(&format!("http://{control}/control/report"))
        .await
        .unwrap()
        .json();
    assert_eq!(report["token_calls"], 2);
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    let ended = || matches!(child.0.try_wait(), Ok(Some(_)));
    assert!(
        support::wait::blocking(Duration::from_secs(10), ended),
        "SIGTERM ends it"
    );
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn help_names_every_option_and_wrong_ones_are_refused() {
    let help = run(&["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for option in [
        "--listen",
        "--control",
        "--app",
        "--token-lifetime",
        "--overlap",
        "--faults",
        "--text-plain-errors",
    ] {
        assert!(text.contains(option), "{option} in {text}");
    }
    for (args, why) in [
        (vec![], "--app"),
        (vec!["--app", "wx1"], "APPID:SECRET"),
        (
            vec!["--app", "wx1:s", "--token-lifetime", "soon"],
            "--token-lifetime",
        ),
        (
            vec!["--app", "wx1:s", "--faults", "{\"on\":\"moon\"}"],
            "moon",
        ),
        (
            vec!["--app", "wx1:s", "--faults", "no-such-file.json"],
            "no-such-file.json",
        ),
        (
            vec![
                "--app",
                "wx1:s",
                "--listen",
                "192.0.2.1:1",
                "--control",
                "127.0.0.1:0",
            ],
            "cannot listen",
        ),
    ] {
        let output = run(&args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains(why),
            "{args:?}: {text}"
        );
    }
}
