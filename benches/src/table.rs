//! The results as Markdown, for `benches/results/README.md`, and as the few lines that end a run.

use std::fmt::{self, Write as _};

use crate::apps::Apps;
use crate::herd::Herd;
use crate::memory::Memory;
use crate::ratios::{Answer, AnswerRatios, Ratios};
use crate::redis::Redis;
use crate::results::Results;
use crate::row::Row;
use crate::user::User;
use crate::watch::Watch;

/// The few lines that end a run: the headline and the targets.
pub fn summary(results: &Results) -> String {
    let mut text = headline(results);
    for target in &results.targets {
        let verdict = if target.reached {
            "reached"
        } else {
            "not reached"
        };
        let _ = write!(
            text,
            "\n{verdict:>11}: {} = {:.2} {} (target: at most {} {})",
            target.name, target.value, target.unit, target.limit, target.unit
        );
    }
    text
}

/// The whole page.
pub fn markdown(results: &Results) -> String {
    let mut page = String::new();
    // Writing to a text cannot fail.
    let _ = write_page(&mut page, results);
    page
}

/// The plugin beside the Lua filter, in one sentence; also the picture's title.
pub fn headline(results: &Results) -> String {
    let part = |answer: Answer| {
        let row = results.ratios.as_ref()?.row(answer, Row::Plugin)?;
        Some(format!("{:.2}× on {}", row.all.to_lua?, answer.title()))
    };
    let parts: Vec<String> = Answer::JUDGED.into_iter().filter_map(part).collect();
    if parts.is_empty() {
        return "The plugin beside the Lua filter: not measured in this run".to_owned();
    }
    format!(
        "The plugin adds {} what a Lua filter adds",
        parts.join(" and ")
    )
}

fn write_page(page: &mut String, results: &Results) -> fmt::Result {
    let machine = &results.machine;
    writeln!(page, "# Benchmark\n\n**{}.**\n", headline(results))?;
    if results.quick {
        writeln!(
            page,
            "This was a smoke test (`--quick`): its numbers mean nothing.\n"
        )?;
    }
    writeln!(page, "![The rows side by side](bench.svg)\n")?;
    writeln!(
        page,
        "Made by `make bench` on {}: Envoy {}, {} ({} cores, {:.0} GiB), Linux {}; load average before the run {:.2}. \
         {} interleaved rounds of {} requests. The same in full: [latest.json](latest.json).\n",
        machine.date,
        machine.envoy,
        machine.cpu,
        machine.cores,
        machine.memory as f64 / (1u64 << 30) as f64,
        machine.kernel,
        machine.load,
        results.rounds,
        results.requests
    )?;
    write_targets(page, results)?;
    if let Some(ratios) = &results.ratios {
        write_ratios(page, ratios)?;
    }
    if let Some(user) = &results.user {
        write_user(page, user)?;
    }
    if let Some(watch) = &results.watch {
        write_watch(page, watch)?;
    }
    if let Some(herd) = &results.herd {
        write_herd(page, herd)?;
    }
    if let Some(memory) = &results.memory {
        write_memory(page, memory)?;
    }
    if let Some(apps) = &results.apps {
        write_apps(page, apps)?;
    }
    if let Some(redis) = &results.redis {
        write_redis(page, redis)?;
    }
    Ok(())
}

fn write_targets(page: &mut String, results: &Results) -> fmt::Result {
    let rows = results.targets.iter().map(|target| {
        vec![
            target.name.clone(),
            format!("≤ {} {}", target.limit, target.unit),
            format!("{:.2} {}", target.value, target.unit),
            if target.reached {
                "reached"
            } else {
                "**not reached**"
            }
            .to_owned(),
        ]
    });
    section(page, "Targets", "")?;
    table(page, &["target", "limit", "measured", ""], rows)
}

fn write_ratios(page: &mut String, ratios: &Ratios) -> fmt::Result {
    section(
        page,
        "CPU a request",
        "CPU of the Envoy process in microseconds a request: each row an Envoy of its own with one worker on one core, \
         the load on another, answers by Envoy itself (`direct_response`), the filter in the HTTP connection manager. \
         The least of all rounds counts; \"added\" is a row's least less plain Envoy's. All CPU (user and kernel) is \
         measured exactly, and every row makes the same system calls, so what is added is the filter's. User CPU leaves \
         the kernel out, but the kernel tells user from system time by samples, and counts part of a filter's work as \
         its own. The Lua filter is [inject.lua](../lua/inject.lua), with a constant for a token. \
         The plugin looks for \
         errors in text and in JSON (WeChat sends both), the Lua filter in JSON only, and neither in pictures. \
         `header_mutation` and `credential_injector` add a constant too, without any check, and `credential_injector` \
         can only set a header.",
    )?;
    for rows in &ratios.answers {
        writeln!(page, "### {}\n", capital(rows.answer.title()))?;
        write_answer(page, rows)?;
    }
    Ok(())
}

fn write_answer(page: &mut String, ratios: &AnswerRatios) -> fmt::Result {
    let rows = ratios.rows.iter().map(|row| {
        let optional =
            |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        let cells = [row.user, row.all].map(|cost| {
            [
                format!("{:.2}", cost.us.min),
                format!("{:.2}", cost.us.median),
                optional(cost.added_us),
                optional(cost.to_lua),
            ]
        });
        let title = row.row.title().to_owned();
        std::iter::once(title)
            .chain(cells.into_iter().flatten())
            .collect()
    });
    let heads = [
        "row", "user µs", "(median)", "added", "× Lua", "all µs", "(median)", "added", "× Lua",
    ];
    table(page, &heads, rows)?;
    if let (Some(user), Some(all)) = (ratios.user_error_us, ratios.all_error_us) {
        writeln!(
            page,
            "The two no-op rows are the same filter in two Envoys; they differ by {user:.2} µs of user CPU and {all:.2} µs \
             of all CPU, which is the error of every row.\n"
        )?;
    }
    Ok(())
}

fn write_user(page: &mut String, user: &User) -> fmt::Result {
    section(
        page,
        "What a user sees",
        &format!(
            "The filter on the upstream cluster, where it is shipped, and a second Envoy as upstream, JSON answers. CPU \
             is user and kernel, of the measured Envoy. \"Busy\" is {} connections as fast as answers come, \"single\" \
             one call at a time; latencies are the median of the rounds. Noisier than the tables above.",
            user.connections
        ),
    )?;
    let rows = user.rows.iter().map(|row| {
        vec![
            row.row.title().to_owned(),
            format!("{:.1}", row.all_us.min),
            format!("{:.0}", row.requests_per_second.max),
            format!("{:.0}", row.busy.p50_us.median),
            format!("{:.0}", row.busy.p99_us.median),
            format!("{:.0}", row.single.p50_us.median),
            format!("{:.0}", row.single.p99_us.median),
        ]
    });
    let heads = [
        "row",
        "CPU µs, least",
        "requests/s, best",
        "busy p50 µs",
        "busy p99 µs",
        "single p50 µs",
        "single p99 µs",
    ];
    table(page, &heads, rows)
}

fn write_watch(page: &mut String, watch: &Watch) -> fmt::Result {
    section(
        page,
        "The watch",
        "The plugin with and without its look at answers, on the upstream cluster, a second Envoy as upstream. User and kernel CPU, the least of all rounds. \
         The error is what two Envoys without it differ by.",
    )?;
    let rows = watch.rows.iter().map(|row| {
        let title = row.exchange.title().to_owned();
        let numbers = [row.off_us.min, row.on_us.min, row.added_us, row.error_us];
        let numbers = numbers.map(|number| format!("{number:.2}"));
        std::iter::once(title).chain(numbers).collect()
    });
    let heads = ["exchange", "without µs", "with µs", "added µs", "error µs"];
    table(page, &heads, rows)
}

fn write_herd(page: &mut String, herd: &Herd) -> fmt::Result {
    section(
        page,
        "Cold herd",
        &format!(
            "Requests wait in a fresh Envoy with {} workers; the fake WeChat then sends the token. Milliseconds from \
             that moment until a request is at the upstream, by the kernel's stamp on its first byte, the median of the \
             repetitions (and the worst). \"Each\" is the time between two arrivals on average: what Envoy takes to \
             send one request once the token is there.",
            herd.workers
        ),
    )?;
    let rows = herd.sizes.iter().map(|size| {
        let cell =
            |spread: crate::stats::Spread| format!("{:.2} ({:.2})", spread.median, spread.max);
        vec![
            size.requests.to_string(),
            cell(size.first_ms),
            cell(size.p50_ms),
            cell(size.p99_ms),
            cell(size.last_ms),
            format!("{:.1}", size.each_us.median),
        ]
    });
    let heads = [
        "waiting", "first ms", "p50 ms", "p99 ms", "last ms", "each µs",
    ];
    table(page, &heads, rows)
}

fn write_memory(page: &mut String, memory: &Memory) -> fmt::Result {
    section(
        page,
        "Memory",
        "Anonymous resident memory (`RssAnon`) without what Envoy's allocator keeps for later (`/memory`), after 20,000 requests over 64 connections, the median of the \
         repetitions. A worker is the difference between eight and one, divided by seven; its VM is a worker less a \
         worker of plain Envoy. What exists once in a process (the singleton, compiled code) falls out. Most of a VM is \
         V8 itself, as the no-op row shows.",
    )?;
    let mib = |bytes: f64| format!("{:.2}", bytes / f64::from(1 << 20));
    let rows = memory.rows.iter().map(|row| {
        vec![
            row.row.title().to_owned(),
            mib(row.one_worker.median),
            mib(row.eight_workers.median),
            mib(row.worker),
            row.vm.map_or_else(String::new, mib),
        ]
    });
    let heads = [
        "row",
        "1 worker MiB",
        "8 workers MiB",
        "a worker MiB",
        "its VM MiB",
    ];
    table(page, &heads, rows)
}

fn write_apps(page: &mut String, apps: &Apps) -> fmt::Result {
    section(
        page,
        "From one app to a thousand",
        "The same thousand calls, each naming its app in the query; CPU as in the first table, JSON answers. \"All \
         tokens\" counts from the start of Envoy's process.",
    )?;
    let rows = apps.rows.iter().map(|row| {
        vec![
            row.apps.to_string(),
            format!("{:.2}", row.user_us.min),
            format!("{:.0}", row.tokens_ms),
            row.calls_ms.to_string(),
            format!("{:.1}", row.memory as f64 / f64::from(1 << 20)),
        ]
    });
    let heads = [
        "apps",
        "least µs",
        "all tokens ms",
        "of it calls ms",
        "Envoy MiB",
    ];
    table(page, &heads, rows)
}

fn write_redis(page: &mut String, redis: &Redis) -> fmt::Result {
    section(
        page,
        "With Redis",
        "A request with `redis` configured and without, by the method of the first table, JSON answers; the error is what two Envoys \
         without it differ by.",
    )?;
    let clocks = [("user", redis.hot.user), ("all", redis.hot.all)];
    let rows = clocks.into_iter().map(|(name, clock)| {
        let numbers = [clock.without_us.min, clock.with_us.min, clock.added_us];
        let numbers = numbers.into_iter().chain([clock.ratio, clock.error_us]);
        let numbers = numbers.map(|number| format!("{number:.2}"));
        std::iter::once(name.to_owned()).chain(numbers).collect()
    });
    let heads = [
        "CPU",
        "without µs",
        "with µs",
        "added µs",
        "ratio",
        "error µs",
    ];
    table(page, &heads, rows)?;
    writeln!(
        page,
        "Beside a service that asks Redis for the token at each call. CPU is the caller's, Redis's and the Envoy's on the way, together, \
         16 callers; latency is of one call at a time; the upstream is not counted.\n"
    )?;
    let rows = redis.ways.iter().map(|row| {
        let numbers = [row.all_us.min, row.redis_us.min, row.p50_us.median];
        let numbers = numbers.into_iter().chain([row.p99_us.median]);
        let numbers = numbers.map(|number| format!("{number:.1}"));
        std::iter::once(row.way.title().to_owned())
            .chain(numbers)
            .collect()
    });
    let heads = ["way", "CPU µs, least", "of it Redis µs", "p50 µs", "p99 µs"];
    table(page, &heads, rows)?;
    let capacity = &redis.capacity;
    writeln!(
        page,
        "One of the plugin's own requests (a connection, the script, QUIT; {} bytes there, {} back) costs Redis {:.1} µs of CPU; \
         {:.0} a second were made with the load on the same machine.\n",
        capacity.sent, capacity.received, capacity.all_us.min, capacity.rate.max
    )
}

fn section(page: &mut String, title: &str, text: &str) -> fmt::Result {
    writeln!(page, "## {title}\n")?;
    if text.is_empty() {
        return Ok(());
    }
    writeln!(page, "{text}\n")
}

/// The first column is text, the others are numbers.
fn table(
    page: &mut String,
    heads: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> fmt::Result {
    writeln!(page, "| {} |", heads.join(" | "))?;
    writeln!(
        page,
        "|---|{}",
        "---:|".repeat(heads.len().saturating_sub(1))
    )?;
    for row in rows {
        writeln!(page, "| {} |", row.join(" | "))?;
    }
    writeln!(page)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}
