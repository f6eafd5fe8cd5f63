//! The phases, one after the other, and what must hold after each.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use support::redis::Redis;
use support::wait::within_at;
use support::wechat::{FakeWeChat, Settings};

use crate::cases::{Case, LIFETIME};
use crate::mesh::Mesh;
use crate::neighbour::{Mode, Neighbour, Places};

/// The app whose token all libraries read.
const SHARED: &str = "wxneighbours0000";
const SECRET: &str = "an-app-secret-for-the-neighbours";
/// The mesh looks at the neighbours' keys once in a minute at least.
const A_LOOK: Duration = Duration::from_secs(62);
/// Longer than that: a replaced token works until everybody has looked.
const OVERLAP: Duration = Duration::from_secs(100);
/// For what takes no time of its own, on a machine with many processes.
const SOON: Duration = Duration::from_secs(60);

/// From one look to the next.
const STEP: Duration = Duration::from_millis(100);

struct World {
    fake: FakeWeChat,
    redis: Redis,
    mesh: Mesh,
    own: Vec<Neighbour>,
    readers: Vec<Neighbour>,
    start: Instant,
}

/// Runs all phases with these libraries.
pub(crate) async fn run(cases: &[Case], rotations: u64) -> Result<()> {
    ensure!(!cases.is_empty(), "no such library");
    let mut world = alone_and_joined(cases, rotations).await?;
    world.together(rotations).await?;
    world.by_themselves().await?;
    world.refused().await?;
    world.finish().await
}

fn app_of(number: usize) -> String {
    format!("wxneighbour{:05}", number + 1)
}

/// Phases 1 and 2. The services are started again between them, as one does to tell them of the mesh.
async fn alone_and_joined(cases: &[Case], rotations: u64) -> Result<World> {
    let start = Instant::now();
    let own_apps: Vec<String> = (0..cases.len()).map(app_of).collect();
    let mut settings = Settings::default()
        // WeChat tells whole seconds, and tokens live a little longer than that.
        .with_token_lifetime(Duration::from_millis(LIFETIME * 1_000 + 500))
        .with_overlap(OVERLAP)
        .with_app(SHARED, SECRET);
    for appid in &own_apps {
        settings = settings.with_app(appid, SECRET);
    }
    let fake = FakeWeChat::start(settings).await;
    let redis = Redis::start(&[]);
    let places = Places {
        redis: redis.address().to_string(),
        wechat: fake.url("").trim_end_matches('/').to_owned(),
        secret: SECRET,
        run: Duration::from_secs(LIFETIME * (rotations + 8)),
        environment: Vec::new(),
    };
    let mut alone = Vec::new();
    for (case, appid) in cases.iter().zip(&own_apps) {
        alone.push(Neighbour::start(*case, appid, Mode::Own, None, &places)?);
    }
    for neighbour in &mut alone {
        neighbour.works(&["beside"]).await?;
        ensure!(
            neighbour.token_calls() == 1,
            "{}: {} token calls alone",
            neighbour.title(),
            neighbour.token_calls()
        );
    }
    tell(start, "alone: each library has made a token");

    let mut apps = own_apps.clone();
    apps.push(SHARED.to_owned());
    let mesh = Mesh::start(&apps, SECRET, &redis, &fake).await?;
    for appid in &own_apps {
        agree(&mesh, &fake, appid, SOON).await?;
        let calls = fake.report().app(appid).token_calls;
        ensure!(
            calls == 1,
            "{appid}: {calls} token calls, the library's own was enough"
        );
    }
    agree(&mesh, &fake, SHARED, SOON).await?;
    let calls = fake.report().app(SHARED).token_calls;
    ensure!(calls == 1, "{SHARED}: {calls} token calls of two Envoys");
    tell(
        start,
        "joined: two Envoys took over the libraries' tokens without a call",
    );

    // The same services, once more, now with the mesh beside them; their tokens are in Redis.
    let (mut own, mut readers) = (Vec::new(), Vec::new());
    for (neighbour, appid) in alone.into_iter().zip(&own_apps) {
        let case = neighbour.case;
        search(&fake, &neighbour.title(), &neighbour.stop().await?)?;
        own.push(Neighbour::start(
            case,
            appid,
            Mode::Own,
            Some(&mesh.url(appid)?),
            &places,
        )?);
        readers.push(Neighbour::start(
            case,
            SHARED,
            Mode::Reader,
            Some(&mesh.url(SHARED)?),
            &places,
        )?);
    }
    Ok(World {
        fake,
        redis,
        mesh,
        own,
        readers,
        start,
    })
}

impl World {
    /// Phase 3.
    async fn together(&mut self, rotations: u64) -> Result<()> {
        for neighbour in self.own.iter_mut().chain(&mut self.readers) {
            neighbour.works(&["beside", "mesh"]).await?;
        }
        tell(
            self.start,
            "together: every service works beside the mesh and through it",
        );
        let made = |world: &World| world.fake.report().app(SHARED).tokens_made;
        let within = Duration::from_secs(LIFETIME * (rotations + 1));
        until(within, "rotations", || made(self) > rotations).await?;
        for neighbour in self.own.iter_mut().chain(&mut self.readers) {
            neighbour.works(&["beside", "mesh"]).await?;
        }
        self.no_refusal("together")?;
        for reader in &self.readers {
            let calls = reader.token_calls();
            ensure!(
                calls == 0,
                "{}: {calls} token calls of a service that needs none",
                reader.title()
            );
        }
        for neighbour in &self.own {
            let made = self.fake.report().app(&neighbour.appid).tokens_made;
            let own = neighbour.token_calls();
            println!(
                "interop:   {}: {made} tokens, {own} of them its own",
                neighbour.title()
            );
            if neighbour.case.title == "seed" {
                ensure!(
                    own as u64 >= rotations,
                    "the seed is earlier than the mesh, but made {own} tokens"
                );
            }
        }
        tell(
            self.start,
            &format!("together: {rotations} rotations, no token refused"),
        );
        Ok(())
    }

    /// Phase 4.
    async fn by_themselves(&mut self) -> Result<()> {
        let before: Vec<usize> = self.own.iter().map(Neighbour::token_calls).collect();
        for neighbour in &self.own {
            self.redis
                .run::<()>(&["DEL", &neighbour.case.key(&neighbour.appid)]);
        }
        for (neighbour, before) in self.own.iter().zip(before) {
            let what = format!("{}: a token call of its own", neighbour.title());
            until(SOON, &what, || neighbour.token_calls() > before).await?;
        }
        let start = Instant::now();
        for neighbour in &self.own {
            let left = (A_LOOK + SOON).saturating_sub(start.elapsed());
            self.agree_with(neighbour, left).await?;
        }
        self.no_refusal("by themselves")?;
        let seen = self
            .mesh
            .counter("wasmcustom.wechat_token_neighbours_seen_total")
            .await;
        ensure!(seen >= self.own.len() as u64, "{seen} neighbours seen");
        for envoy in &self.mesh.envoys {
            ensure!(
                envoy.logs().contains("event=neighbour_seen"),
                "no line about a neighbour"
            );
        }
        tell(
            self.start,
            &format!("by themselves: the mesh followed every library ({seen} times seen)"),
        );
        Ok(())
    }

    /// Phase 5.
    async fn refused(&mut self) -> Result<()> {
        let made = |world: &World| -> Vec<u64> {
            let report = world.fake.report();
            world
                .own
                .iter()
                .map(|own| report.app(&own.appid).tokens_made)
                .collect()
        };
        let before = made(self);
        for neighbour in &self.own {
            self.fake.revoke(&neighbour.appid, 40001);
        }
        for neighbour in &mut self.own {
            neighbour.works(&["beside", "mesh"]).await?;
        }
        for neighbour in &self.own {
            self.agree_with(neighbour, A_LOOK + SOON).await?;
        }
        for ((neighbour, before), after) in self.own.iter().zip(before).zip(made(self)) {
            let made = after - before;
            println!(
                "interop:   {}: {made} tokens after the refusal",
                neighbour.title()
            );
            // One for all, or one of each side at the same time and a third that ends the doubt.
            ensure!(
                (1..=4).contains(&made),
                "{}: {made} tokens after one refusal",
                neighbour.title()
            );
        }
        tell(self.start, "refused: every service works again");
        Ok(())
    }

    async fn finish(self) -> Result<()> {
        let violations = self.fake.report().violations;
        ensure!(violations.is_empty(), "{violations:?}");
        for neighbour in self.own.into_iter().chain(self.readers) {
            let title = neighbour.title();
            search(&self.fake, &title, &neighbour.stop().await?)?;
        }
        for envoy in self.mesh.envoys {
            search(&self.fake, "an Envoy", &envoy.terminate().log)?;
        }
        tell(self.start, "no token and no secret in what anybody logged");
        Ok(())
    }

    /// Nobody was told that a token is not good.
    fn no_refusal(&self, phase: &str) -> Result<()> {
        let report = self.fake.report();
        let refused: u64 = [40001, 40014, 42001]
            .map(|errcode| report.errcode(errcode))
            .iter()
            .sum();
        ensure!(
            refused == 0,
            "{phase}: WeChat refused {refused} tokens: {:?}",
            report.business_errcodes
        );
        for neighbour in self.own.iter().chain(&self.readers) {
            let failed = neighbour.failed();
            ensure!(
                failed == 0,
                "{phase}: {}: {failed} calls failed",
                neighbour.title()
            );
        }
        Ok(())
    }

    /// Waits until the mesh and a neighbour use the same token of its app.
    async fn agree_with(&self, neighbour: &Neighbour, within: Duration) -> Result<()> {
        let attempt = || async {
            let tokens = match self.mesh.tokens(&neighbour.appid, &self.fake).await {
                Ok(tokens) => tokens,
                Err(error) => return Some(Err(error)),
            };
            let calls = self.fake.calls(4_096);
            let beside = calls.iter().rev().find(|call| {
                call.appid.as_deref() == Some(&neighbour.appid)
                    && call.header("x-forwarded-proto").is_none()
            });
            let beside = beside.and_then(|call| call.token)?;
            tokens.iter().all(|here| *here == beside).then_some(Ok(()))
        };
        let agreed = within_at(STEP, within, attempt).await;
        agreed.with_context(|| format!("{}: it and the mesh use two tokens", neighbour.title()))?
    }
}

/// Waits until all Envoys use the same token of an app.
async fn agree(mesh: &Mesh, fake: &FakeWeChat, appid: &str, within: Duration) -> Result<()> {
    let attempt = || async {
        match mesh.tokens(appid, fake).await {
            Ok(tokens) => tokens
                .windows(2)
                .all(|pair| pair.first() == pair.last())
                .then_some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    };
    let agreed = within_at(STEP, within, attempt).await;
    agreed.with_context(|| format!("{appid}: the Envoys use two tokens"))?
}

async fn until(within: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let attempt = || std::future::ready(holds().then_some(()));
    let held = within_at(STEP, within, attempt).await;
    held.with_context(|| format!("not within {within:?}: {what}"))
}

/// No token and no secret that ever was may be in a text.
pub(crate) fn search(fake: &FakeWeChat, whose: &str, text: &str) -> Result<()> {
    let leaks = fake.leaks();
    let found = leaks
        .iter()
        .filter(|leak| text.contains(leak.as_str()))
        .count();
    ensure!(
        found == 0,
        "{whose}: {found} tokens or secrets in its output"
    );
    Ok(())
}

pub(crate) fn tell(start: Instant, what: &str) {
    println!("interop: {:3} s: {what}", start.elapsed().as_secs());
}
