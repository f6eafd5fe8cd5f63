//! The Envoys that every test goes through: versions, numbers of workers, placements.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Where the injector stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// In the WeChat cluster, behind the router.
    Upstream,
    /// In the listener, before the router: what Istio's `WasmPlugin` does.
    Downstream,
}

/// One way to run the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) version: &'static str,
    pub(crate) concurrency: u32,
    pub(crate) placement: Placement,
}

pub(crate) const fn setting(
    version: &'static str,
    concurrency: u32,
    placement: Placement,
) -> Setting {
    Setting {
        version,
        concurrency,
        placement,
    }
}

/// Enough for every day: the newest and the oldest version with resending, each number of workers, both placements.
const FEW: [Setting; 4] = [
    setting("1.40.0", 2, Placement::Upstream),
    setting("1.37.0", 4, Placement::Upstream),
    setting("1.40.0", 1, Placement::Downstream),
    setting("1.37.0", 2, Placement::Downstream),
];

/// With [`FEW`], every pair of values of two dimensions.
const MORE: [Setting; 5] = [
    setting("1.37.0", 1, Placement::Upstream),
    setting("1.39.3", 1, Placement::Upstream),
    setting("1.39.3", 2, Placement::Upstream),
    setting("1.39.3", 4, Placement::Downstream),
    setting("1.40.0", 4, Placement::Downstream),
];

/// [`FEW`]; where `E2E_MATRIX` asks for it, [`MORE`] (`more`) or the whole product (`full`).
pub(crate) fn settings() -> Vec<Setting> {
    let matrix = std::env::var_os("E2E_MATRIX").unwrap_or_default();
    match matrix.to_str() {
        Some("") => FEW.to_vec(),
        Some("more") => MORE.to_vec(),
        Some("full") => product(),
        _ => panic!("E2E_MATRIX={matrix:?}; allowed: more, full"),
    }
}

fn product() -> Vec<Setting> {
    let mut all = Vec::new();
    for version in ["1.37.0", "1.39.3", "1.40.0"] {
        for concurrency in [1, 2, 4] {
            for placement in [Placement::Upstream, Placement::Downstream] {
                all.push(setting(version, concurrency, placement));
            }
        }
    }
    all
}

#[test]
fn few_and_more_have_every_pair_of_values() {
    let chosen = [FEW.as_slice(), MORE.as_slice()].concat();
    for one in product() {
        let has =
            |pair: fn(&Setting, &Setting) -> bool| chosen.iter().any(|other| pair(&one, other));
        assert!(
            has(|a, b| (a.version, a.concurrency) == (b.version, b.concurrency)),
            "{one:?}"
        );
        assert!(
            has(|a, b| (a.version, a.placement) == (b.version, b.placement)),
            "{one:?}"
        );
        assert!(
            has(|a, b| (a.concurrency, a.placement) == (b.concurrency, b.placement)),
            "{one:?}"
        );
    }
}

/// One of the settings for each version and placement: for what cannot depend on the number of workers.
pub(crate) fn versions_and_placements() -> Vec<Setting> {
    let mut short: Vec<Setting> = Vec::new();
    for setting in settings() {
        let is_alike = |other: &Setting| {
            (other.version, other.placement) == (setting.version, setting.placement)
        };
        if !short.iter().any(is_alike) {
            short.push(setting);
        }
    }
    short
}

/// Runs a test in every setting, one after the other; a failure names its setting.
pub(crate) async fn in_each_setting<T: Future<Output = ()>>(test: impl Fn(Setting) -> T) {
    for setting in settings() {
        let _named = Named(setting);
        test(setting).await;
    }
}

/// As [`in_each_setting`], so many settings at once: for tests that spend their time waiting for tokens to age.
pub(crate) async fn in_settings_at_once<T>(at_once: usize, test: impl Fn(Setting) -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for setting in settings() {
        let (test, places) = (test(setting), Arc::clone(&places));
        running.spawn(async move {
            let _place = places.acquire().await;
            let _named = Named(setting);
            test.await;
        });
    }
    while let Some(ended) = running.join_next().await {
        if let Err(failed) = ended {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}

/// Says in which setting a test failed.
struct Named(Setting);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- failed in {:?}", self.0);
        }
    }
}
