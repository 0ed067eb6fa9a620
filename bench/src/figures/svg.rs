//! The comparison as a picture: three rows of bars, CPU per packet, highest rate, delay.

use std::fmt::Write as _;

use crate::veth::{Comparison, Forwarder, Work};

const BYTES: usize = 160;
const FORWARDERS: [(Forwarder, &str); 3] = [
    (Forwarder::XdpNative, "#1f6feb"),
    (Forwarder::Userspace, "#7fb2ff"),
    (Forwarder::Rtpengine, "#9a9a9a"),
];
const WIDTH: f64 = 900.0;
const LEFT: f64 = 140.0;
const BAR: f64 = 15.0;
/// Where the longest bar ends; its figure stands behind it.
const LONGEST: f64 = 640.0;
const GROUP: f64 = 3.0 * BAR + 10.0;
const PANEL: f64 = Work::ALL.len() as f64 * GROUP + 44.0;
const TOP: f64 = 40.0;

/// One panel.
struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    value: &'a dyn Fn(Work, Forwarder) -> Option<f64>,
}

pub(super) fn picture(veth: &Comparison) -> String {
    let cpu = |work, forwarder| Some(veth.at(work, forwarder, BYTES, 20_000.0)?.cpu_ns / 1e3);
    let rate = |work, forwarder| Some(veth.highest(work, forwarder)?.pps? / 1e3);
    let delay = |work, forwarder| Some(veth.at(work, forwarder, BYTES, 1_000.0)?.latency.p50_us);
    let panels = [
        Panel {
            title: "CPU per packet at 20 000 packets/s, less is better",
            unit: "us",
            value: &cpu,
        },
        Panel {
            title: "highest loss-free rate on one core, more is better",
            unit: "kpps",
            value: &rate,
        },
        Panel {
            title: "median one-way delay at 1 000 packets/s, veth included, less is better",
            unit: "us",
            value: &delay,
        },
    ];
    let height = TOP + PANEL * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#24292f\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (place, (forwarder, colour)) in FORWARDERS.iter().enumerate() {
        let x = LEFT + 190.0 * place as f64;
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"12\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"22\">{}</text>",
            x + 18.0,
            forwarder.name()
        );
    }
    for (place, panel) in panels.iter().enumerate() {
        draw(&mut svg, TOP + PANEL * place as f64, panel);
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, top: f64, panel: &Panel<'_>) {
    let values = Work::ALL
        .into_iter()
        .flat_map(|work| FORWARDERS.map(|(forwarder, _)| (panel.value)(work, forwarder)));
    let largest = values.flatten().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>",
        top + 20.0,
        panel.title
    );
    for (place, work) in Work::ALL.into_iter().enumerate() {
        let y = top + 30.0 + GROUP * place as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 1.5 * BAR + 4.0,
            work.name().replace("->", "to")
        );
        for (place, (forwarder, colour)) in FORWARDERS.into_iter().enumerate() {
            let y = y + BAR * place as f64;
            let Some(value) = (panel.value)(work, forwarder) else {
                continue;
            };
            let length = (LONGEST * value / largest).max(1.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{} {}</text>",
                BAR - 2.0,
                LEFT + length + 6.0,
                y + BAR - 4.0,
                rounded(value),
                panel.unit
            );
        }
    }
}

/// Three digits.
pub(super) fn rounded(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_bar() {
        let svg = picture(&crate::figures::example().veth);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for text in [
            "RTP to RTP",
            "causeway XDP native",
            ">1.00 us<",
            ">10.0 us<",
            ">3200 kpps<",
        ] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        // The longest bar of a panel takes the whole width, a tenth of it a tenth.
        assert!(svg.contains("width=\"640.0\"") && svg.contains("width=\"64.0\""));
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            ["1.23", "12.3", "1234"],
            [1.234, 12.34, 1234.4].map(rounded).as_slice()
        );
    }
}
