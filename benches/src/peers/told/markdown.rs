//! As Markdown: what stands in `figures.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{digits, figure, first_line, held, limit, percent, range};
use crate::growth::Size;
use crate::peers::bars::{Verdict, bars};
use crate::peers::pipeline::Lookup;
use crate::peers::plot::count;
use crate::peers::times::QUANTILES;
use crate::peers::{Changes, Flood, Machine, Pipeline, Results, Spread};
use crate::throughput::{Plan, Score};

/// What the kernel's two places are.
const PLACES: &str = "
Linux forwards in two places, since neither is the other's better. **Handed to a core of its own**: what is received on the generator's core is \
handed to the core that levee has when it is its turn (`rps_cpus`), as by a NIC that interrupts that core. Frames go from one core to another, as they \
do for everybody in user space here; and the kernel is woken for them, where levee polls. **Inline on the sender's core**: over veth, forwarding is \
then a function call of who sends: no other core, no wake-up, no queue. No NIC works like that, and nobody on a core of its own can be as soon; it is \
here, with a bar of its own, because that is what Linux does between two veths when nobody tells it otherwise. Throughput is held \
against the place in which the kernel does more.
";

impl Results {
    /// All of it as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "# Figures\n\nMade by `{}`; not by hand.\n", self.machine.command);
        let Machine { processor, cores, kernel, commit, date, .. } = &self.machine;
        let Plan { rounds, window, source, forwarder } = &self.plan;
        let _ = writeln!(
            text,
            "{processor}, {cores} cores, Linux {kernel}, veth; commit {commit}, {date}. {rounds} rounds of {} s, 64-byte TCP of 1,024 flows; \
             generator on core {source}, who forwards on core {forwarder}. Medians; least and most of the rounds.\n",
            window.as_secs_f64()
        );
        self.tell_bars(&mut text);
        self.tell_throughput(&mut text);
        self.tell_latency(&mut text);
        self.tell_flood(&mut text);
        self.tell_changes(&mut text);
        self.tell_idle(&mut text);
        self.tell_pipeline(&mut text);
        self.tell_pauses(&mut text);
        text
    }

    fn tell_bars(&self, text: &mut String) {
        text.push_str("## What is wanted\n\n| | measured | least–most | wanted | |\n|---|---:|---:|---:|---|\n");
        for bar in bars(self) {
            let (measured, range) = match &bar.measured {
                Ok(spread) => held(&bar, spread),
                Err(reason) => (reason.clone(), "–".into()),
            };
            let verdict = match bar.verdict() {
                Verdict::Met => "met",
                Verdict::Told => "told",
                Verdict::Missed => "**missed**",
                Verdict::Unknown => "not measured",
            };
            let _ = writeln!(text, "| {} | {measured} | {range} | {} | {verdict} |", bar.what, limit(&bar));
        }
        text.push_str(PLACES);
    }

    fn tell_throughput(&self, text: &mut String) {
        if self.rows.is_empty() && self.missing.is_empty() {
            return;
        }
        text.push_str(
            "\n## Throughput\n\n| | Mpps | least–most | ÷ bounce | least–most | lost of what was sent | its own time on its core | that core was busy |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for row in &self.rows {
            let of = |what: fn(&Score) -> f64| Spread::of(row.scores.iter().map(what));
            let Some((arrived, lost, busy)) =
                of(|score| score.arrived).zip(of(Score::lost)).zip(of(|score| score.busy)).map(|((a, b), c)| (a, b, c))
            else {
                continue;
            };
            let (ratio, ratios) = self.ratio(&row.key, "bounce").map_or_else(
                |_| ("–".into(), "–".into()),
                |ratio| (figure(ratio.median, ""), range(&ratio, digits(""))),
            );
            let own = Spread::of(row.scores.iter().filter_map(|score| score.core));
            let own = own.map_or_else(|| "–".into(), |own| percent(own.median));
            let _ = writeln!(
                text,
                "| {} | {:.3} | {:.3}–{:.3} | {ratio} | {ratios} | {} | {own} | {} |",
                row.name,
                arrived.median,
                arrived.least,
                arrived.most,
                percent(lost.median),
                percent(busy.median)
            );
        }
        for (_, name, reason) in &self.missing {
            let _ = writeln!(text, "| {name} | SKIPPED: {} | | | | | | |", first_line(reason));
        }
    }

    fn tell_latency(&self, text: &mut String) {
        if self.times.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n## Latency at a tenth of the load\n\nMicroseconds, one way, {:.0} frames a second, medians of {} windows of a quarter of a second.\n\n\
             | | p50 | p99 | p99.9 | least–most | lost of what was sent |\n|---|---:|---:|---:|---:|---:|",
            self.tenth,
            self.times.first().map_or(0, Vec::len)
        );
        for rounds in &self.times {
            let Some(first) = rounds.first() else { continue };
            let cells = QUANTILES.map(|(_, quantile)| {
                Spread::of(rounds.iter().map(quantile))
                    .map_or_else(|| "–".into(), |spread| format!("{:.1}", spread.median))
            });
            let sent: u64 = rounds.iter().map(|times| times.frames.0).sum();
            let arrived: u64 = rounds.iter().map(|times| times.frames.1).sum();
            let lost = sent.saturating_sub(arrived);
            let slowest = Spread::of(rounds.iter().map(|times| times.p999));
            let range = slowest.map_or_else(|| "–".into(), |spread| format!("{:.1}–{:.1}", spread.least, spread.most));
            let _ = writeln!(text, "| {} | {} | {range} | {lost} of {sent} |", first.name, cells.join(" | "));
        }
    }

    fn tell_flood(&self, text: &mut String) {
        if self.floods.is_empty() {
            return;
        }
        let of = |rounds: &[Flood], what: fn(&Flood) -> f64| Spread::of(rounds.iter().map(what));
        text.push_str(
            "\n## Established flows beside beginning ones\n\nFrames of a round, medians. `SYNs`: the part of all frames that are the first of a flow; \
             the others are of established ones. They come at four fifths of the most that gets through of such a mix: more is lost in a full \
             ring, whatever it is.\n\n\
             | | SYNs | frames a second | the most | of established flows | lost of them | least–most | SYNs | that arrived | found a ring full | levee dropped |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n",
        );
        for rounds in &self.floods {
            let Some(first) = rounds.first() else { continue };
            let cell = |what| of(rounds, what).map_or_else(|| "–".into(), |spread| format!("{:.0}", spread.median));
            let lost = of(rounds, |flood| flood.established.1 as f64);
            let lost = lost.map_or_else(|| "–".into(), |lost| format!("{:.0}–{:.0}", lost.least, lost.most));
            let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
            for (reason, count) in rounds.iter().flat_map(|flood| &flood.dropped) {
                *dropped.entry(reason).or_default() += count;
            }
            let dropped: Vec<_> = dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {lost} | {} | {} | {} | {} |",
                first.name,
                Flood::share(first.syns),
                cell(|flood| flood.rate),
                cell(|flood| flood.most),
                cell(|flood| flood.established.0 as f64),
                cell(|flood| flood.established.1 as f64),
                cell(|flood| flood.begun.0 as f64),
                cell(|flood| flood.begun.1 as f64),
                cell(|flood| flood.unseen as f64),
                if dropped.is_empty() { "–".into() } else { format!("{} in all rounds", dropped.join(", ")) }
            );
        }
    }

    fn tell_changes(&self, text: &mut String) {
        let Some(changes) = &self.changes else { return };
        let _ = writeln!(
            text,
            "\n## One backend changed, {}\n\n| from request to answer, µs | changes | p50 | p99 | most |\n|---|---:|---:|---:|---:|",
            changes.services
        );
        for (name, sorted) in
            [("nothing else to do", &changes.alone), ("under full load, on the same two cores", &changes.loaded)]
        {
            let at = |part| Changes::at(sorted, part);
            let _ = writeln!(text, "| {name} | {} | {:.0} | {:.0} | {:.0} |", sorted.len(), at(0.5), at(0.99), at(1.0));
        }
        let _ = writeln!(
            text,
            "\nForwarding with {:.0} changes a second, as a part of what it is without: windows of {} s, with changes and without in turn, each \
             with changes by the mean of its neighbours without.\n\n\
             | | windows | median | 95 % of medians | least–most |\n|---|---:|---:|---:|---:|",
            changes.rate,
            self.plan.window.as_secs_f64()
        );
        for (name, kept) in
            [("for the time that the worker had its core", &changes.kept), ("in all", &changes.kept_of_all)]
        {
            let Some((spread, sure)) = kept.spread().zip(kept.sure()) else { continue };
            let Spread { median, least, most } = spread;
            let _ = writeln!(
                text,
                "| {name} | {} | {median:.3} | {:.3}–{:.3} | {least:.3}–{most:.3} |",
                kept.0.len(),
                sure.0,
                sure.1
            );
        }
    }

    fn tell_idle(&self, text: &mut String) {
        if self.idle.is_empty() {
            return;
        }
        text.push_str(
            "\n## Nothing to do\n\n| `idle` | Services | of a core | resident, MiB |\n|---|---:|---:|---:|\n",
        );
        for idle in &self.idle {
            let resident = idle.resident as f64 / f64::from(1 << 20);
            let _ =
                writeln!(text, "| `{}` | {} | {} | {resident:.0} |", idle.how, idle.services.count, percent(idle.core));
        }
    }

    fn tell_pipeline(&self, text: &mut String) {
        let Pipeline { established, after_a_change, beginning, growth, lookup, instructions } = &self.pipeline;
        let ns = |ns: &Spread| format!("{:.1} | {:.1}–{:.1}", ns.median, ns.least, ns.most);
        if !established.is_empty() || !beginning.is_empty() {
            text.push_str(
                "\n## Over memory, `nat`\n\n| 100 backends | ns a packet | 95 % of medians |\n|---|---:|---:|\n",
            );
            for point in established {
                let _ = writeln!(
                    text,
                    "| {} established flows, at random | {} |",
                    count(point.flows.into()),
                    ns(&point.ns)
                );
            }
            if let Some(changed) = after_a_change {
                let each =
                    "1,000 established flows, in turn, each packet the first of its flow since tables were changed";
                let _ = writeln!(text, "| {each} | {} |", ns(changed));
            }
            for (table, figure) in beginning {
                let _ = writeln!(text, "| new flows only, into {table} | {} |", ns(figure));
            }
        }
        if let Some(instructions) = instructions {
            let _ = writeln!(
                text,
                "\nInstructions of a packet of an established flow, counted by callgrind: {instructions}."
            );
        }
        if !lookup.is_empty() {
            let cell = |spread: &Option<Spread>| spread.as_ref().map_or_else(|| "– | –".into(), ns);
            text.push_str(
                "\n## Service of a packet\n\nThe lookup alone: from a packet's address and port to its Service and a backend of it, or to knowing that it \
                 is for none. Packets are for all Services in turn, far from each other.\n\n\
                 | Services | ns | 95 % of medians | nobody's: ns | 95 % of medians |\n|---:|---:|---:|---:|---:|\n",
            );
            for Lookup { services, found, nobodys } in lookup {
                let _ = writeln!(text, "| {} | {} | {} |", count((*services).into()), cell(found), cell(nobodys));
            }
        }
        let Some(least) = growth.first() else { return };
        text.push_str(
            "\n## As everything grows, over memory, `nat`, both directions\n\n\
             | Services | backends | established flows, at random | ns a packet | 95 % of medians | times |\n|---:|---:|---:|---:|---:|---:|\n",
        );
        for point in growth {
            let Size { services, backends, flows } = point.size;
            let [services, backends, flows] = [services, backends, flows].map(|number| count(number.into()));
            let times = point.ns.median / least.ns.median;
            let _ = writeln!(text, "| {services} | {backends} | {flows} | {} | {times:.2} |", ns(&point.ns));
        }
    }

    fn tell_pauses(&self, text: &mut String) {
        let Some(first) = self.pauses.first() else { return };
        let _ = writeln!(
            text,
            "\n## The longest turns, over memory\n\n\
             Microseconds of a turn; {} turns, each as it was when least disturbed in several runs of the same. A batch is 64 packets that each \
             want to begin a flow through `nat`. `others`: all but the first ten. `seen`: by a clock on the wall, interrupts and others' turns on the \
             core included.\n\n\
             | what comes | into | p50 | p99 | longest | which is turn | longest of the others | seen |\n|---|---|---:|---:|---:|---:|---:|---:|",
            count(first.turns.len() as f64)
        );
        for pause in &self.pauses {
            let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| pause.at(part));
            let _ = writeln!(
                text,
                "| {} | {} | {p50:.1} | {p99:.1} | {longest:.1} | {} | {:.1} | {:.0} |",
                pause.kind,
                pause.scene,
                pause.turn(),
                pause.settled(),
                pause.seen
            );
        }
    }
}
