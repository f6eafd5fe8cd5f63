//! Envoys that are updated while they serve.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use support::wait::until;
use support::wechat::FakeWeChat;

use crate::dynamic::{draining_fast, Dynamic};
use crate::load::Load;
use crate::settings::{setting, Placement, Setting};
use crate::world::{plan, World};

const UPDATES: u64 = 200;
/// When the replaced roots have to be gone, a second of drain included.
const GONE: Duration = Duration::from_secs(30);
/// What memory may be after the second half of the updates, in parts of what it was after the first: 100 documents and their roots that nobody lets go of would be 1.2.
const MEMORY_ALLOWED: f64 = 1.1;

/// A cluster's filter and a listener's.
const SETTINGS: [Setting; 2] = [
    setting("1.40.0", 2, Placement::Upstream),
    setting("1.40.0", 2, Placement::Downstream),
];

/// An Envoy that serves, and can be updated.
async fn start(setting: Setting) -> (Dynamic, World) {
    let plan = plan(setting);
    let fake = FakeWeChat::start(plan.settings.clone()).await;
    let (dynamic, setting, config) = Dynamic::of(plan, &fake);
    let envoy = draining_fast(setting.builder(config)).start().await;
    let world = World::new(setting, fake, envoy);
    world.ready().await;
    (dynamic, world)
}

/// Gives the plugin another configuration: Envoy skips what did not change.
async fn update(dynamic: &mut Dynamic, world: &World, number: u64) {
    dynamic.document["wait"] = json!({"timeout": format!("{}ms", 5_000 + number)});
    dynamic.update(&world.envoy).await;
}

/// Virtual machines that live; an update makes one for a moment, which tries the configuration.
async fn machines(world: &World) -> u64 {
    world.envoy.stat("wasm.wasm_vm_count").await
}

/// How many roots live in each slot, and how many there were so far. The threads' lines are not in order: of a slot that is given
/// on, the next owner may be heard of first.
fn slots(world: &World) -> (BTreeMap<usize, i64>, usize) {
    let (mut slots, mut roots) = (BTreeMap::new(), 0);
    for line in world.envoy.logs().lines() {
        for (event, change) in [
            ("event=slot_taken slot=", 1),
            ("event=root_ended slot=", -1),
        ] {
            if let Some((_, slot)) = line.split_once(event) {
                *slots.entry(slot.trim().parse().unwrap()).or_default() += change;
                roots += usize::from(change > 0);
            }
        }
    }
    slots.retain(|_, alive| *alive != 0);
    (slots, roots)
}

/// Waits until so many roots have been there and none lives but the refresher's and those of the last update, one for each worker and one
/// on the main thread; their slots.
async fn settled(world: &World, roots: usize) -> Vec<usize> {
    let alive = world.setting.concurrency as usize + 2;
    until(GONE, "the old roots' ends", || {
        let (slots, all) = slots(world);
        slots.len() == alive && slots.values().all(|alive| *alive == 1) && all >= roots
    })
    .await;
    slots(world).0.into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_updates_lose_no_request_and_leave_nothing_behind() {
    for setting in SETTINGS {
        let (mut dynamic, world) = start(setting).await;
        let machines_before = machines(&world).await;
        let load = Load::start(&world);
        // The first half takes memory to what so many roots at once need.
        let mut memory = Vec::new();
        for half in [1..=UPDATES / 2, UPDATES / 2 + 1..=UPDATES] {
            for number in half {
                update(&mut dynamic, &world, number).await;
            }
            settled(&world, 0).await;
            assert_eq!(machines(&world).await, machines_before);
            memory.push(world.envoy.used_memory().await as f64);
        }
        let good = load.end().await;
        assert!(good > 10 * UPDATES, "{good}");
        println!("{setting:?}: {memory:?}");
        assert!(memory[1] < memory[0] * MEMORY_ALLOWED, "{memory:?}");
        // Their slots are free, and so are the queues that belong to these: the next roots take the first ones.
        let injectors = setting.concurrency as usize + 1;
        let (_, roots) = slots(&world);
        update(&mut dynamic, &world, 0).await;
        let slots = settled(&world, roots + injectors).await;
        let highest = 2 * injectors;
        assert!(slots.iter().all(|slot| *slot <= highest), "{slots:?}");
        // All of them got their tokens from shared data.
        assert_eq!(world.fake.report().token_calls, 1);
        world.finish().await;
    }
}
