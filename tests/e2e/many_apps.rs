//! A thousand apps behind one Envoy.

use support::wait::until;

use crate::settings::in_each_setting;
use crate::world::{plan, SOON};

/// How many token calls the plugin makes at once.
const AT_ONCE: u32 = 32;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_apps_get_their_tokens_with_at_most_32_calls_at_once() {
    in_each_setting(|setting| async move {
        let apps: Vec<_> = (0..1_000).map(|number| format!("wx{number:016}")).collect();
        let names: Vec<_> = apps.iter().map(String::as_str).collect();
        let plan = plan(setting).with_apps(&names);
        // The first ones are held, so that they would pile up if nothing kept them back.
        let world = plan.start_cold().await;
        world.fake.wait_for_held(AT_ONCE, SOON).await;
        world.fake.release();
        until(3 * SOON, "all tokens are there", || {
            world.fake.report().token_calls >= 1_000
        })
        .await;
        for appid in [0, 1, 31, 32, 500, 999].map(|number| &apps[number]) {
            let named = ("x-wechat-appid", appid.as_str());
            let exchange = world
                .call("/cgi-bin/echo", &[named, ("x-expect-appid", appid)])
                .await;
            assert_eq!(exchange.answer.json()["appid"], appid.as_str());
        }
        let report = world.fake.report();
        assert_eq!(
            (report.token_calls, report.token_calls_in_flight_max),
            (1_000, 1)
        );
        assert_eq!(report.token_calls_at_once_max, AT_ONCE);
        world.finish().await;
    })
    .await;
}
