//! The picture: CPU that each row adds to a request, plain and JSON answers side by side.

use anyhow::{anyhow, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::ratios::{Answer, RowRatios};
use crate::results::Results;
use crate::row::Row;
use crate::table::headline;

const WIDTH: u32 = 900;
/// Height of one row with both its bars.
const ROW: i32 = 58;
const BAR: i32 = 20;
/// Where the first row begins, below the title and the legend.
const TOP: i32 = 96;
const BOTTOM: i32 = 44;
/// Where bars begin, right of the rows' names.
const LEFT: i32 = 210;
/// Kept free at the right for the numbers.
const RIGHT: i32 = 150;

const INK: RGBColor = RGBColor(34, 40, 49);
const FAINT: RGBColor = RGBColor(110, 118, 129);
const PLUGIN: [RGBColor; 2] = [RGBColor(143, 205, 173), RGBColor(7, 140, 84)];
const OTHERS: [RGBColor; 2] = [RGBColor(195, 203, 214), RGBColor(110, 127, 150)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws it as SVG; without the ratios section only the title stands in it.
pub fn draw(results: &Results) -> Result<String> {
    let rows: Vec<Row> = Row::ALL
        .into_iter()
        .filter(|row| *row != Row::Plain && added(results, Answer::Plain, *row).is_some())
        .collect();
    let height = TOP + BOTTOM + ROW * i32::try_from(rows.len())?;
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH, u32::try_from(height)?)).into_drawing_area();
        paint(&area, results, &rows, height).map_err(|error| anyhow!("the picture: {error}"))?;
    }
    svg.push('\n');
    Ok(svg)
}

fn paint(
    area: &Area<'_>,
    results: &Results,
    rows: &[Row],
    height: i32,
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    text(area, &headline(results), (24, 34), 20, &INK, HPos::Left)?;
    text(
        area,
        "CPU that a filter adds to a request in Envoy, in microseconds",
        (24, 60),
        14,
        &FAINT,
        HPos::Left,
    )?;
    let mut x = LEFT;
    for (answer, colour) in Answer::JUDGED.into_iter().zip(OTHERS) {
        area.draw(&Rectangle::new([(x, 74), (x + 12, 86)], colour.filled()))?;
        text(area, answer.title(), (x + 18, 80), 13, &FAINT, HPos::Left)?;
        x += 130;
    }
    let values = rows
        .iter()
        .flat_map(|row| Answer::JUDGED.map(|answer| added(results, answer, *row)));
    let most = values.flatten().fold(f64::EPSILON, f64::max);
    let room = f64::from(i32::try_from(WIDTH)? - LEFT - RIGHT);
    let mut y = TOP;
    for row in rows {
        text(
            area,
            row.title(),
            (LEFT - 12, y + BAR + 4),
            15,
            &INK,
            HPos::Right,
        )?;
        for (index, answer) in Answer::JUDGED.into_iter().enumerate() {
            let Some(ratios) = found(results, answer, *row) else {
                continue;
            };
            let colours = if *row == Row::Plugin { PLUGIN } else { OTHERS };
            let colour = colours.get(index).copied().unwrap_or(INK);
            let top = y + 3 + i32::try_from(index)? * (BAR + 2);
            let value = ratios.all.added_us.unwrap_or_default();
            let end = LEFT + (value.max(0.0) / most * room) as i32;
            area.draw(&Rectangle::new(
                [(LEFT, top), (end.max(LEFT + 1), top + BAR)],
                colour.filled(),
            ))?;
            let to_lua = ratios
                .all
                .to_lua
                .map_or_else(String::new, |share| format!("  ({share:.2}× Lua)"));
            text(
                area,
                &format!("{value:.1} µs{to_lua}"),
                (end + 8, top + BAR / 2),
                13,
                &INK,
                HPos::Left,
            )?;
        }
        y += ROW;
    }
    let machine = &results.machine;
    let mut foot = format!(
        "Envoy {}, {} ({} cores), Linux {}, {}; least of {} rounds of {} requests",
        machine.envoy.split(' ').next().unwrap_or_default(),
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.date.split('T').next().unwrap_or_default(),
        results.rounds,
        results.requests
    );
    if results.quick {
        foot.push_str(" (smoke test)");
    }
    text(area, &foot, (24, height - 20), 12, &FAINT, HPos::Left)?;
    area.present()?;
    Ok(())
}

fn text(
    area: &Area<'_>,
    words: &str,
    at: (i32, i32),
    size: u32,
    colour: &RGBColor,
    side: HPos,
) -> Result<(), Box<dyn std::error::Error>> {
    let style = ("sans-serif", size)
        .into_font()
        .color(colour)
        .pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(words.to_owned(), at, style))?;
    Ok(())
}

fn found(results: &Results, answer: Answer, row: Row) -> Option<&RowRatios> {
    results.ratios.as_ref()?.row(answer, row)
}

fn added(results: &Results, answer: Answer, row: Row) -> Option<f64> {
    found(results, answer, row)?.all.added_us
}
