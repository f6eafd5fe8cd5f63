//! Who keeps the tokens where the refresher is missing.

use std::time::Duration;

use crate::settings::{setting, Placement};
use crate::world::{plan, APPID};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_refresher_one_injector_keeps_the_tokens_of_all_workers() {
    for version in ["1.37.0", "1.40.0"] {
        let mut plan = plan(setting(version, 4, Placement::Upstream));
        plan.config.remove("bootstrap_extensions");
        plan.settings = plan
            .settings
            .with_token_lifetime(Duration::from_secs(8))
            .with_overlap(Duration::from_secs(2));
        let world = plan.start().await;
        for _ in 0..8 {
            world.ready().await;
        }
        let renewed =
            |generation: u32| format!("event=token_renewed app={APPID} generation={generation} ");
        let envoy = &world.envoy;
        envoy
            .wait_for_log(&renewed(2), Duration::from_secs(20))
            .await;
        let log = envoy.logs();
        // A second holder would count anew.
        for generation in 1..=2 {
            let times = log.matches(&renewed(generation)).count();
            assert_eq!(times, 1, "{version}, generation {generation}: {log}");
        }
        assert!(!log.contains("event=lease_"), "{version}: {log}");
        let report = world.fake.report();
        report.assert_clean();
        assert_eq!(report.token_calls_in_flight_max, 1, "{version}");
    }
}
