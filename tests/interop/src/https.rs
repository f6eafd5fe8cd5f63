//! Services whose library has `https://api.weixin.qq.com` built in, through `envoy/transparent-https/`: unmodified libraries, told of no
//! other host and given no secret. Tokens rotate, one is refused, the certificate is renewed, and no call of theirs fails.
//!
//! All of it runs in a network namespace of its own: port 443 of the shipped listener is free there, and a hosts file that only this
//! namespace sees leads WeChat's name to it.

mod trust;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use serde_json::json;
use support::envoy::{workspace, Config, Envoy};
use support::redis::Redis;
use support::wait::within_at;
use support::wechat::{FakeWeChat, Outcome, Settings};
use tempfile::TempDir;
use tokio::process::Command;

use self::trust::{bundle, Variable, LIBRARIES, OTHERS, PHP, UNSET, URL};
use crate::cases::{Case, CASES};
use crate::neighbour::{Mode, Neighbour, Places};
use crate::phases::{self, search};

/// As in the shipped files.
const APPID: &str = "wx0123456789abcdef";
const SECRET: &str = "an-app-secret-that-no-service-has";
const FOLDER: &str = "envoy/transparent-https";
/// Where the shipped files expect the certificate.
const PLACE: &str = "/etc/envoy/wechat-https";
/// Set for the process that runs inside of the namespace.
const INSIDE: &str = "INTEROP_INSIDE";
/// For what takes no time of its own, on a machine with many processes.
const SOON: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

/// Runs it, in a namespace of its own.
pub(crate) async fn run(rotations: u64) -> Result<()> {
    if is_inside() {
        return inside(rotations).await;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        command.arg("--map-root-user");
    }
    command
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(["--only", "https", "--rotations", &rotations.to_string()])
        .env(INSIDE, "1");
    for name in UNSET {
        command.env_remove(name);
    }
    let status = command.status().await.context("unshare (util-linux)")?;
    ensure!(
        status.success(),
        "over https: {status}; where a namespace cannot be made, run this as root"
    );
    Ok(())
}

/// Whether this process is the one in the namespace.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

struct World {
    fake: FakeWeChat,
    envoy: Envoy,
    redis: Redis,
    made: TempDir,
    start: Instant,
}

async fn inside(rotations: u64) -> Result<()> {
    let world = World::start().await?;
    world.without_trust().await?;
    world.others().await?;
    let mut services = Vec::new();
    for (case, trust) in world.services()? {
        let places = world.places(Some(trust), Duration::from_secs(600));
        services.push(Neighbour::start(case, APPID, Mode::Reader, None, &places)?);
    }
    for service in &mut services {
        service.works(&["beside"]).await?;
    }
    world.tell("every library works with the placeholder, and no service has a secret");

    world.rotations(rotations, &mut services).await?;
    world.renew().await?;
    for service in &mut services {
        service.works(&["beside"]).await?;
    }
    world.tell("the certificate was renewed");
    world.fake.revoke(APPID, 40001);
    for service in &mut services {
        service.works(&["beside"]).await?;
    }
    world.tell("a token was refused, and no service saw it");
    world.finish(services).await
}

impl World {
    async fn start() -> Result<World> {
        let start = Instant::now();
        let made = tempfile::tempdir()?;
        run_well(std::process::Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let hosts = made.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.1 api.weixin.qq.com\n")?;
        run_well(
            std::process::Command::new("mount")
                .arg("--bind")
                .arg(&hosts)
                .arg("/etc/hosts"),
        )?;
        let settings = Settings::default()
            .with_token_lifetime(Duration::from_secs(8))
            .with_overlap(Duration::from_secs(4))
            .with_app(APPID, SECRET);
        let fake = FakeWeChat::start(settings).await;
        certify(made.path())?;
        let envoy = Envoy::builder("1.40.0")
            .config(config(&fake))
            .arg("--config-yaml")
            .arg(&listener(made.path())?)
            .concurrency(1)
            .env("WECHAT_SECRET", SECRET)
            .start()
            .await;
        Ok(World {
            fake,
            envoy,
            redis: Redis::start(&[]),
            made,
            start,
        })
    }

    /// Without its setting no service calls anything.
    async fn without_trust(&self) -> Result<()> {
        let mut services = Vec::new();
        for (case, _) in self.services()? {
            let places = self.places(None, Duration::ZERO);
            services.push(Neighbour::start(case, APPID, Mode::Reader, None, &places)?);
        }
        for service in services {
            let title = service.title();
            let attempt = || std::future::ready((service.count("summary", &[]) == 1).then_some(()));
            let ended = within_at(STEP, SOON, attempt).await;
            ended.with_context(|| format!("{title}: no end without the CA"))?;
            let (good, failed) = (service.good("beside"), service.failed());
            ensure!(
                good == 0 && failed > 0,
                "{title}: {good} calls without the CA"
            );
            search(&self.fake, &title, &service.stop().await?)?;
        }
        let calls = self.fake.report().business_calls;
        ensure!(calls == 0, "WeChat got {calls} calls");
        self.tell("no library calls an Envoy whose CA it does not trust");
        Ok(())
    }

    /// The settings that the README names for other programs.
    async fn others(&self) -> Result<()> {
        let bundle = bundle(&self.trust());
        for (program, arguments, variable) in OTHERS {
            let mut command = Command::new(program);
            self.trusts(command.args(arguments), false).await?;
            self.trusts(command.env(variable, &bundle), true).await?;
        }
        for (setting, code) in PHP {
            let mut command = Command::new("php");
            self.trusts(command.args(["-r", code, URL]), false).await?;
            let mut command = Command::new("php");
            let setting = format!("{setting}={bundle}");
            self.trusts(command.args(["-d", &setting, "-r", code, URL]), true)
                .await?;
        }
        self.tell("curl, Python's urllib and PHP trust the CA by their settings, and only by them");
        Ok(())
    }

    async fn trusts(&self, command: &mut Command, does: bool) -> Result<()> {
        let output = command
            .output()
            .await
            .with_context(|| format!("{command:?}"))?;
        let answer = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let good = answer.contains("\"errcode\":0");
        ensure!(good == does, "{command:?}: {answer} {errors}");
        Ok(())
    }

    async fn rotations(&self, rotations: u64, services: &mut [Neighbour]) -> Result<()> {
        let made = || self.fake.report().app(APPID).tokens_made;
        let wanted = made() + rotations;
        let rotated = || std::future::ready((made() >= wanted).then_some(()));
        let within = SOON + Duration::from_secs(8) * u32::try_from(rotations)?;
        within_at(STEP, within, rotated)
            .await
            .context("no rotations")?;
        for service in services.iter_mut() {
            service.works(&["beside"]).await?;
        }
        let refused = self.fake.report().business_errcodes;
        ensure!(refused.is_empty(), "WeChat refused calls: {refused:?}");
        self.tell(&format!("{rotations} rotations, no token refused"));
        Ok(())
    }

    async fn finish(self, services: Vec<Neighbour>) -> Result<()> {
        for service in services {
            let title = service.title();
            let (good, failed) = (service.good("beside"), service.failed());
            ensure!(failed == 0, "{title}: {failed} calls failed");
            let (rejected, tokens) = (service.count("rejected", &[]), service.token_calls());
            ensure!(
                rejected == 0,
                "{title}: {rejected} answers of a refused token"
            );
            ensure!(
                tokens == 1,
                "{title}: {tokens} token calls, one placeholder is enough"
            );
            println!("interop:   {title}: {good} calls");
            search(&self.fake, &title, &service.stop().await?)?;
        }
        let report = self.fake.report();
        ensure!(report.violations.is_empty(), "{:?}", report.violations);
        let of_envoy = |call: &support::wechat::TokenCall| {
            call.appid == APPID && matches!(call.outcome, Outcome::Made | Outcome::Same)
        };
        ensure!(
            report.token_log.iter().all(of_envoy),
            "a token call of a service came to WeChat: {:?}",
            report.token_log
        );
        let log = self.envoy.terminate().log;
        search(&self.fake, "Envoy", &log)?;
        ensure!(
            !log.contains("no-secret"),
            "a service's secret is in Envoy's log"
        );
        tell(
            self.start,
            "no token call of a service came to WeChat, no secret in a log",
        );
        Ok(())
    }

    /// The libraries with what each needs to trust the CA.
    fn services(&self) -> Result<Vec<(Case, Variable)>> {
        let mut services = Vec::new();
        for (title, variable, value) in LIBRARIES {
            let case = CASES.into_iter().find(|case| case.title == title);
            let case = case.with_context(|| format!("no library {title}"))?;
            services.push((case, (variable, value(&self.trust()))));
        }
        Ok(services)
    }

    fn places(&self, trust: Option<Variable>, run: Duration) -> Places {
        // The libraries' clocks and deadlines are WeChat's: what they are told is a life of two hours.
        let scale = ("NEIGHBOUR_LIFE_SCALE", "1".to_owned());
        Places {
            redis: self.redis.address().to_string(),
            wechat: "https://api.weixin.qq.com".to_owned(),
            secret: "",
            run,
            environment: trust.into_iter().chain([scale]).collect(),
        }
    }

    fn trust(&self) -> PathBuf {
        self.made.path().join("services")
    }

    /// A new certificate, which Envoy takes up.
    async fn renew(&self) -> Result<()> {
        let before = self.serial()?;
        certify(self.made.path())?;
        let serial = self.serial()?;
        ensure!(serial != before, "the script made no new certificate");
        let shown = || async {
            let certificates = self.envoy.admin_get("/certs").await.text();
            certificates.contains(&serial).then_some(())
        };
        let renewed = within_at(STEP, SOON, shown).await;
        renewed.context("the new certificate is not taken up")
    }

    /// The serial number of the certificate in the file, as Envoy's admin API writes it.
    fn serial(&self) -> Result<String> {
        let file = self.made.path().join("envoy/server.pem");
        let mut command = std::process::Command::new("openssl");
        let line = run_well(command.args(["x509", "-noout", "-serial", "-in"]).arg(file))?;
        let (_, serial) = line.trim().split_once('=').context("serial=NUMBER")?;
        Ok(serial.trim_start_matches('0').to_lowercase())
    }

    fn tell(&self, what: &str) {
        tell(self.start, what);
    }
}

/// The demo's Envoy.
fn config(fake: &FakeWeChat) -> Config {
    let mut config = Config::load("envoy/envoy.demo.yaml");
    config
        .free_ports()
        .wasm_file(&workspace().join("dist/wechat-token.wasm"));
    for cluster in ["wechat_api", "wechat_token"] {
        config.cluster_to(cluster, fake.address(), true);
    }
    config.each_plugin(|_, document| document["caller_token"] = json!("replace"));
    config
}

/// The shipped listener for the certificate there.
fn listener(made: &Path) -> Result<String> {
    let certificate = made.join("envoy");
    let folder = certificate.to_str().context("a path in UTF-8")?;
    let shipped = |file: &str| {
        let text = std::fs::read_to_string(workspace().join(FOLDER).join(file));
        text.map(|text| text.replace(PLACE, folder))
    };
    std::fs::write(certificate.join("sds.yaml"), shipped("sds.yaml")?)?;
    Ok(shipped("listener.yaml")?)
}

fn certify(folder: &Path) -> Result<()> {
    let script = workspace().join(FOLDER).join("certificate.sh");
    run_well(std::process::Command::new(script).arg(folder)).map(drop)
}

fn run_well(command: &mut std::process::Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn tell(start: Instant, what: &str) {
    phases::tell(start, &format!("over https: {what}"));
}
