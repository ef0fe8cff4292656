//! Reports as curves: which share of the peers has a block after how long.

use std::fmt::Write as _;

use crate::report::Report;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const MARGIN: f64 = 60.0;
const COLOURS: [&str; 6] = [
    "#1b6ca8", "#c8553d", "#3c8d53", "#7a4fa3", "#b58900", "#444444",
];

/// An SVG picture with one curve for each report, time on a logarithmic scale.
pub fn svg(reports: &[Report]) -> String {
    let times = || {
        reports
            .iter()
            .flat_map(|report| report.curve.iter().map(|(ms, _)| *ms))
    };
    let longest = times().fold(10.0, f64::max);
    let decades = longest.log10().ceil().max(1.0);
    // From 0.1 ms on.
    let x =
        |ms: f64| MARGIN + (ms.max(0.1).log10() + 1.0) / (decades + 1.0) * (WIDTH - 2.0 * MARGIN);
    let y = |share: f64| HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for decade in -1..=decades as i32 {
        let ms = 10f64.powi(decade);
        line(&mut out, (x(ms), y(0.0)), (x(ms), y(1.0)));
        text(
            &mut out,
            x(ms),
            y(0.0) + 18.0,
            "middle",
            &format!("{ms} ms"),
        );
    }
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        line(&mut out, (MARGIN, y(share)), (WIDTH - MARGIN, y(share)));
        let label = format!("{:.0} %", share * 100.0);
        text(&mut out, MARGIN - 8.0, y(share) + 4.0, "end", &label);
    }
    for (number, report) in reports.iter().enumerate() {
        let colour = COLOURS
            .get(number % COLOURS.len())
            .copied()
            .unwrap_or("black");
        let points: Vec<String> = report
            .curve
            .iter()
            .map(|(ms, share)| format!("{:.1},{:.1}", x(*ms), y(*share)))
            .collect();
        let points = points.join(" ");
        push(
            &mut out,
            format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{points}\"/>\n"
            ),
        );
        let top = 20.0 + 16.0 * number as f64;
        let label = format!("{}, {} peers", report.rules, report.peers);
        push(
            &mut out,
            format_args!("<text x=\"{MARGIN}\" y=\"{top}\" fill=\"{colour}\">{label}</text>\n"),
        );
    }
    out.push_str("</svg>\n");
    out
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    push(
        out,
        format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>\n",
            from.0, from.1, to.0, to.1
        ),
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, label: &str) {
    push(
        out,
        format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{label}</text>\n"),
    );
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use crate::{Options, run};

    #[test]
    fn each_report_is_a_curve() {
        let report = run(&Options {
            peers: 4,
            blocks: 3,
            ..Options::default()
        })
        .unwrap();
        let picture = super::svg(&[report.clone(), report]);
        assert_eq!(picture.matches("<polyline").count(), 2);
        assert!(picture.ends_with("</svg>\n"));
    }
}
