//! SVG bar charts over time that are readable on light and dark backgrounds.

use std::fmt::Write;

/// The width of a second, in pixels.
const SECOND: u64 = 12;
const LEFT: u64 = 200;
const TOP: u64 = 66;
const ROW: u64 = 58;
/// The height of the highest bar, in pixels.
const HIGHEST: u64 = 40;

const STYLE: &str = "
  .paper { fill: #ffffff; } text { font: 13px sans-serif; fill: #1f2328; }
  .title { font-weight: bold; font-size: 15px; } .small { font-size: 11px; }
  .asked { fill: #d0d7de; } .admitted { fill: #0969da; }
  .line { stroke: #8c959f; } .edge { stroke: #8c959f; stroke-dasharray: 2 3; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #161b22; } text { fill: #e6edf3; }
    .asked { fill: #484f58; } .admitted { fill: #58a6ff; }
    .line, .edge { stroke: #6e7681; }
  }
";

/// The result of one algorithm.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) note: String,
    /// The admitted hits of each second.
    pub(crate) admitted: Vec<u64>,
    pub(crate) most: u64,
}

/// Draws the requested hits of each second, and a row for each algorithm.
pub(crate) fn draw(title: &str, asked: &[u64], window: u64, rows: &[Row]) -> String {
    let seconds = asked.len() as u64;
    let (width, height) = (LEFT + seconds * SECOND + 90, TOP + rows.len() as u64 * ROW + 26);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n"
    );
    rect(&mut svg, "paper", (0, 0), (width, height));
    text(&mut svg, "title", (12, 22), "start", title);
    rect(&mut svg, "asked", (12, 33), (11, 11));
    text(&mut svg, "small", (28, 43), "start", "asked in each second");
    rect(&mut svg, "admitted", (152, 33), (11, 11));
    text(&mut svg, "small", (168, 43), "start", "admitted");
    let right = LEFT + seconds * SECOND;
    text(&mut svg, "small", (right + 82, 43), "end", &format!("most in {window} s"));
    let scale = asked.iter().copied().max().unwrap_or(1).max(1);
    for (i, row) in rows.iter().enumerate() {
        let base = TOP + (i as u64 + 1) * ROW - 12;
        for edge in (0..=seconds).step_by(window as usize) {
            let x = LEFT + edge * SECOND;
            line(&mut svg, "edge", (x, base - HIGHEST), (x, base));
        }
        for (class, counts) in [("asked", asked), ("admitted", &row.admitted)] {
            for (second, count) in (0..).zip(counts) {
                if *count == 0 {
                    continue;
                }
                let high = (count * HIGHEST / scale).max(1);
                let x = LEFT + second * SECOND + 1;
                rect(&mut svg, class, (x, base - high), (SECOND - 2, high));
            }
        }
        line(&mut svg, "line", (LEFT, base), (right, base));
        text(&mut svg, "name", (12, base - 18), "start", &row.name);
        text(&mut svg, "small", (12, base - 3), "start", &row.note);
        text(&mut svg, "name", (right + 82, base - 10), "end", &row.most.to_string());
    }
    for edge in (0..=seconds).step_by(window as usize) {
        let x = LEFT + edge * SECOND;
        text(&mut svg, "small", (x, height - 14), "middle", &format!("{edge} s"));
    }
    svg + "</svg>\n"
}

fn rect(svg: &mut String, class: &str, (x, y): (u64, u64), (width, height): (u64, u64)) {
    let at = format!("x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
    writeln!(svg, "<rect class=\"{class}\" {at}/>").unwrap();
}

fn line(svg: &mut String, class: &str, (x1, y1): (u64, u64), (x2, y2): (u64, u64)) {
    let at = format!("x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"");
    writeln!(svg, "<line class=\"{class}\" {at}/>").unwrap();
}

fn text(svg: &mut String, class: &str, (x, y): (u64, u64), anchor: &str, text: &str) {
    let at = format!("x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"");
    writeln!(svg, "<text class=\"{class}\" {at}>{text}</text>").unwrap();
}
