//! Lines over a logarithmic axis, as SVG: what these measurements need of pictures, and no more.

use plotters::prelude::*;

use super::Spread;

/// Width and height, in pixels.
const SIZE: (u32, u32) = (960, 560);

/// One picture.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// Under the axis of what was given; it is logarithmic.
    pub x: &'static str,
    /// Beside that of what was measured; it begins with nothing.
    pub y: &'static str,
    /// Below: where it was measured, and how.
    pub under: String,
    /// Lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// What was given, and what was measured.
    pub points: Vec<(f64, Spread)>,
    /// Whether it is there to be compared with: thin, and without its spread.
    pub reference: bool,
}

/// Colours that are told apart by those who see fewer (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
];

impl Plot {
    /// Draws it.
    ///
    /// # Errors
    /// What cannot be drawn.
    pub fn svg(&self) -> Result<String, String> {
        let mut text = String::new();
        self.draw(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    fn draw(&self, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let least = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let most = points().map(|(x, _)| *x).fold(0.0, f64::max);
        let top = points().map(|(_, y)| y.most).fold(0.0, f64::max) * 1.25;
        if !(least > 0.0 && most.is_finite() && top > 0.0 && top.is_finite()) {
            return Err(format!("{}: nothing to draw", self.title).into());
        }
        let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (upper, lower) = root.split_vertically(SIZE.1 - 28);
        lower.draw(&Text::new(self.under.clone(), (16, 6), ("sans-serif", 11).into_font().color(&BLACK.mix(0.7))))?;
        let mut chart = ChartBuilder::on(&upper)
            .caption(&self.title, ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((least / 1.3..most * 1.3).log_scale(), 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| count(*x))
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13))
            .draw()?;
        for (series, colour) in
            self.series.iter().filter(|series| !series.points.is_empty()).zip(COLOURS.iter().cycle())
        {
            let width = if series.reference { 1 } else { 3 };
            let line = series.points.iter().map(|(x, y)| (*x, y.median));
            let colour = *colour;
            chart
                .draw_series(LineSeries::new(line.clone(), colour.stroke_width(width)))?
                .label(&series.name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(width)));
            if !series.reference {
                let bars = series
                    .points
                    .iter()
                    .map(|(x, y)| ErrorBar::new_vertical(*x, y.least, y.median, y.most, colour.filled(), 8));
                chart.draw_series(bars)?;
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 13))
            .draw()?;
        root.present()?;
        Ok(())
    }
}

/// A number as people write it: `1`, `5,000`, `10 M`.
#[must_use]
pub fn count(number: f64) -> String {
    match number.round() as u64 {
        whole if whole >= 1_000_000 && whole.is_multiple_of(1_000_000) => format!("{} M", whole / 1_000_000),
        whole if whole >= 1_000_000 => format!("{:.1} M", number / 1e6),
        whole if whole >= 1_000 => format!("{},{:03}", whole / 1_000, whole % 1_000),
        whole => whole.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, Spread)>) -> Plot {
        let series = vec![Series { name: "levee & others".into(), points, reference: false }];
        Plot { title: "a <title>".into(), x: "flows", y: "ns", under: "a machine".into(), series }
    }

    #[test]
    fn a_picture_says_what_it_shows_and_where_it_is_from() {
        let points = vec![(1e3, Spread { median: 30.0, least: 29.0, most: 31.0 }), (1e7, Spread::one(90.0))];
        let text = plot(points).svg().unwrap();
        for part in ["<svg", "a &lt;title&gt;", "levee &amp; others", "a machine", "flows", "</svg>"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn one_point_is_enough_and_none_is_told() {
        assert!(plot(vec![(1.0, Spread::one(1.0))]).svg().is_ok());
        assert!(plot(vec![]).svg().unwrap_err().contains("nothing to draw"));
        assert!(plot(vec![(1.0, Spread::one(f64::NAN))]).svg().is_err());
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        assert_eq!(
            [1.0, 999.0, 5e3, 25e3, 1e6, 1.5e6, 1e7].map(count),
            ["1", "999", "5,000", "25,000", "1 M", "1.5 M", "10 M"]
        );
    }
}
