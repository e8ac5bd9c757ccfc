//! As pictures.

use crate::peers::plot::{Plot, Series};
use crate::peers::{Results, Spread};

impl Results {
    /// Pictures, by the names of their files. None where there is nothing to show.
    #[must_use]
    pub fn plots(&self) -> Vec<(&'static str, Plot)> {
        let mpps = |key: &str| Spread::of(self.row(key)?.scores.iter().map(|score| score.arrived));
        let by_services = |name: &str, prefix: &str| {
            let points =
                self.services.iter().filter_map(|count| Some((f64::from(*count), mpps(&format!("{prefix}{count}"))?)));
            Series { name: name.to_owned(), points: points.collect(), reference: false }
        };
        let mut series = vec![
            by_services("levee, nat", "levee_nat_"),
            by_services("Linux, kube-proxy's nftables", "linux_nftables_"),
            by_services("Linux, IPVS", "linux_ipvs_"),
        ];
        for key in ["bounce", "dpdk_testpmd", "linux_forwarding"] {
            let all = mpps(key)
                .into_iter()
                .flat_map(|spread| self.services.iter().map(move |count| (f64::from(*count), spread)));
            series.push(Series {
                name: format!("{} (no Services)", self.name(key)),
                points: all.collect(),
                reference: true,
            });
        }
        let over_flows = |name: &str, points: &mut dyn Iterator<Item = (u32, Spread)>| Series {
            name: name.to_owned(),
            points: points.map(|(flows, ns)| (f64::from(flows), ns)).collect(),
            reference: false,
        };
        let under = self.machine.line();
        let throughput = Plot {
            title: "Throughput by number of Services, 10 endpoints each, 64-byte TCP of 1,024 flows, one core".into(),
            x: "Services",
            y: "million frames a second",
            under: under.clone(),
            series,
        };
        let packets = Plot {
            title: "A packet's way over memory, nat, established flows at random".into(),
            x: "flows",
            y: "nanoseconds a packet",
            under,
            series: vec![
                over_flows(
                    "100 backends of one Service",
                    &mut self.pipeline.established.iter().map(|point| (point.flows, point.ns)),
                ),
                over_flows(
                    "a Service of ten backends for each hundred flows; both directions",
                    &mut self.pipeline.growth.iter().map(|point| (point.size.flows, point.ns)),
                ),
            ],
        };
        [("throughput-by-services.svg", throughput), ("ns-by-flows.svg", packets)]
            .into_iter()
            .filter(|(_, plot)| plot.series.iter().any(|series| !series.points.is_empty()))
            .collect()
    }
}
