//! The dashboard's panels drawn from what Prometheus recorded in the incident: `docs/dashboard.svg`. It is a picture of the data, not of Grafana.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::dashboard::Panel;

/// Of all panels of a row beside each other.
const WIDTH: i32 = 1_200;
const HEIGHT: i32 = 190;
const ROW_TITLE: i32 = 30;
const TITLE: i32 = 64;
const MARGIN: i32 = 14;
/// What a name in a legend takes; those that have no place are counted.
const NAME: i32 = 125;
const LETTERS: usize = 20;
const BACKGROUND: RGBColor = RGBColor(24, 27, 31);
const PANEL: RGBColor = RGBColor(34, 37, 43);
const INK: RGBColor = RGBColor(220, 222, 228);
const FAINT: RGBColor = RGBColor(140, 146, 158);
const LINES: [RGBColor; 8] = [
    RGBColor(115, 191, 105),
    RGBColor(242, 204, 12),
    RGBColor(87, 148, 242),
    RGBColor(255, 120, 10),
    RGBColor(242, 73, 92),
    RGBColor(184, 119, 217),
    RGBColor(51, 201, 201),
    RGBColor(163, 82, 33),
];

/// A panel and what its queries gave.
pub(crate) struct Drawn {
    pub(crate) panel: Panel,
    pub(crate) lines: Vec<Line>,
}

/// One line of it: seconds since the incident began, and values.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// All panels as one SVG, row by row.
pub(crate) fn draw(drawn: &[Drawn]) -> String {
    let mut rows: Vec<(&str, Vec<&Drawn>)> = Vec::new();
    for one in drawn {
        match rows.last_mut().filter(|(row, _)| *row == one.panel.row) {
            Some((_, panels)) => panels.push(one),
            None => rows.push((&one.panel.row, vec![one])),
        }
    }
    let height = |panels: &[&Drawn]| {
        let lines = (count(panels) + columns(panels) - 1) / columns(panels);
        ROW_TITLE + HEIGHT * lines
    };
    let total = TITLE + rows.iter().map(|(_, panels)| height(panels)).sum::<i32>() + MARGIN;
    let width = WIDTH + 2 * MARGIN;
    let size = (width.unsigned_abs(), total.unsigned_abs());
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&BACKGROUND).expect("a picture");
        let end = drawn
            .iter()
            .flat_map(|one| &one.lines)
            .flat_map(|line| &line.points);
        let end = end.map(|(at, _)| *at).fold(1.0, f64::max);
        let title =
            format!("WeChat tokens: {end:.0} s of a scripted incident, as Prometheus recorded it");
        write(&area, &title, (MARGIN, 16), 20, &INK);
        let what = "shop loses its IP, mall its budget; a neighbour overwrites cafe's token, WeChat rejects it, Redis stops; two refreshers die";
        write(&area, what, (MARGIN, 42), 14, &FAINT);
        let mut top = TITLE;
        for (row, panels) in rows {
            write(&area, row, (MARGIN, top + 8), 16, &INK);
            let (columns, wide) = (columns(&panels), WIDTH / columns(&panels));
            for (place, one) in (0..).zip(&panels) {
                let corner = (
                    MARGIN + place % columns * wide,
                    top + ROW_TITLE + place / columns * HEIGHT,
                );
                let panel = area.clone().shrink(corner, (wide - 8, HEIGHT - 8));
                draw_panel(&panel, one, wide - 8, end);
            }
            top += height(&panels);
        }
        area.present().expect("a picture");
    }
    svg.push('\n');
    svg
}

fn count(panels: &[&Drawn]) -> i32 {
    i32::try_from(panels.len()).expect("few")
}

/// Three beside each other, or four where there are no more.
fn columns(panels: &[&Drawn]) -> i32 {
    if panels.len() == 4 {
        4
    } else {
        3
    }
}

fn draw_panel(area: &Area<'_>, one: &Drawn, width: i32, end: f64) {
    area.fill(&PANEL).expect("a panel");
    write(area, &one.panel.title, (10, 8), 14, &INK);
    write(area, &unit(&one.panel.unit), (width - 70, 9), 12, &FAINT);
    let finite = |line: &Line| {
        let points = line.points.iter().copied();
        points
            .filter(|(_, value)| value.is_finite())
            .collect::<Vec<_>>()
    };
    let lines: Vec<_> = one.lines.iter().map(|line| (line, finite(line))).collect();
    let values = lines.iter().flat_map(|(_, points)| points);
    let top = values.map(|(_, value)| *value).fold(0.0, f64::max);
    let plot = area.margin(28, 34, 8, 12);
    let mut chart = ChartBuilder::on(&plot)
        .set_label_area_size(LabelAreaPosition::Left, 38)
        .set_label_area_size(LabelAreaPosition::Bottom, 16)
        .build_cartesian_2d(0.0..end, 0.0..(top * 1.1).max(0.001))
        .expect("a chart");
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT.mix(0.2))
        .axis_style(FAINT.mix(0.5))
        .y_labels(4)
        .x_labels(5)
        .x_label_formatter(&|at| format!("{at:.0} s"))
        .label_style(("sans-serif", 10).into_font().color(&FAINT))
        .draw()
        .expect("axes");
    for (place, (_, points)) in lines.iter().enumerate() {
        let color = LINES[place % LINES.len()];
        for run in runs(points) {
            let line = LineSeries::new(run.iter().copied(), color.stroke_width(2));
            chart.draw_series(line).expect("a line");
        }
    }
    let names = usize::try_from((width - 40) / NAME).expect("some");
    for (place, (line, _)) in lines.iter().enumerate().take(names) {
        let at = 10 + NAME * i32::try_from(place).expect("few");
        let mark = [(at, HEIGHT - 22), (at + 8, HEIGHT - 19)];
        let color = LINES[place % LINES.len()];
        area.draw(&Rectangle::new(mark, color.filled()))
            .expect("a mark");
        let name: String = line.name.chars().take(LETTERS).collect();
        write(area, &name, (at + 12, HEIGHT - 26), 11, &FAINT);
    }
    if lines.len() > names {
        let more = format!("+{}", lines.len() - names);
        write(area, &more, (width - 30, HEIGHT - 26), 11, &FAINT);
    }
}

/// The parts of a line between gaps: where there is nothing for more than two steps.
fn runs(points: &[(f64, f64)]) -> Vec<&[(f64, f64)]> {
    points
        .chunk_by(|(before, _), (after, _)| after - before < 2.5)
        .collect()
}

/// Grafana's name of a unit, as it shows it.
fn unit(name: &str) -> String {
    let shown = [
        ("s", "seconds"),
        ("ms", "ms"),
        ("reqps", "req/s"),
        ("cpm", "a minute"),
        ("cps", "a second"),
        ("percentunit", "share"),
    ];
    let found = shown.iter().find(|(known, _)| *known == name);
    found.map_or_else(String::new, |(_, text)| (*text).to_owned())
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, color: &RGBColor) {
    let style = ("sans-serif", size).into_font().color(color);
    area.draw(&Text::new(text.to_owned(), at, style))
        .expect("a text");
}
