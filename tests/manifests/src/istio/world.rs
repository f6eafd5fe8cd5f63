//! A world of its own for Istio's deployments: namespaces for network, mounts and processes, made by `unshare` around this very program.
//!
//! In there WeChat's name leads to the fake one, on its own port, the CA bundle holds the CA of the fake one, and Istio's ports and
//! folders are free; so the files are used as they are. Nothing of it is left behind: with the program's end the kernel
//! takes everything back. It needs root, as transparent capture does: for anybody else it is asked of `sudo`.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Stdio;

use anyhow::{ensure, Context, Result};
use rustix::process::geteuid;
use tokio::process::Command;

/// Tells the program that it is inside.
const INSIDE: &str = "MANIFESTS_WORLD";
/// What lies outside of the pods: WeChat and istiod.
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// And a web server.
pub(super) const ARTIFACTS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Istio's user for its proxies, whose own traffic is not captured.
pub(super) const USER: u32 = 1337;
/// The data of Istio's agents.
const DATA: &str = "/var/lib/istio/data";
/// A folder in memory, for whatever the world needs.
pub(super) const FOLDER: &str = "/run";

/// Whether this program runs in a world of its own.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program once more, for one deployment, in a world of its own.
pub(crate) async fn enter(deployment: &str) -> Result<()> {
    // Who is not root may be allowed to become it without a password, as in CI.
    let (program, first): (_, &[&str]) = match geteuid().is_root() {
        true => ("unshare", &[]),
        false => ("sudo", &["--non-interactive", "unshare"]),
    };
    let mut command = Command::new(program);
    command.args(first);
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["--mount-proc", "--propagation", "private"]);
    command.args(["env", &format!("{INSIDE}=yes")]);
    command.arg(std::env::current_exe()?).arg(deployment);
    let status = command.kill_on_drop(true).status();
    let status = status
        .await
        .with_context(|| format!("{program}: root makes the network namespaces of {deployment}"))?;
    ensure!(status.success(), "{deployment}: {program}: {status}");
    Ok(())
}

/// Makes the world: its network, its own `/run`, and `/etc` and `/var/lib` to write in. Once for each program.
pub(super) async fn make() -> Result<()> {
    if Path::new(FOLDER).join("etc").exists() {
        return Ok(());
    }
    run("ip", &["link", "set", "lo", "up"]).await?;
    for address in [OUTSIDE, ARTIFACTS] {
        let address = format!("{address}/32");
        run("ip", &["address", "add", &address, "dev", "lo"]).await?;
    }
    // Pods reach each other through here.
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    run("mount", &["-t", "tmpfs", "-o", "mode=755", "world", FOLDER]).await?;
    for folder in ["bin", "pods"] {
        fs::create_dir_all(Path::new(FOLDER).join(folder))?;
    }
    for (folder, layers) in [("/etc", "etc"), ("/var/lib", "lib")] {
        let layers = Path::new(FOLDER).join(layers);
        let (upper, work) = (layers.join("upper"), layers.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let (upper, work) = (upper.display(), work.display());
        let layers = format!("lowerdir={folder},upperdir={upper},workdir={work}");
        run("mount", &["-t", "overlay", "-o", &layers, "world", folder]).await?;
    }
    // Where agents keep the plugins that they fetch.
    fs::create_dir_all(DATA)?;
    Ok(chown(DATA, Some(USER), Some(USER))?)
}

/// A program under a path that everybody may go, whatever the folder in which it lies.
pub(super) async fn program(name: &str, file: &Path) -> Result<String> {
    let place = format!("{FOLDER}/bin/{name}");
    if !Path::new(&place).exists() {
        fs::write(&place, "")?;
        let file = file.to_str().context("a path that is text")?;
        run("mount", &["--bind", file, &place]).await?;
    }
    Ok(place)
}

/// Runs a program to its end, which must be a good one; its output.
pub(super) async fn output(program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.with_context(|| program.to_owned())?;
    ensure!(
        output.status.success(),
        "{program} {}: {}\n{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// As [`output`], for a program whose output does not matter.
pub(super) async fn run(program: &str, args: &[&str]) -> Result<()> {
    output(program, args).await.map(drop)
}
