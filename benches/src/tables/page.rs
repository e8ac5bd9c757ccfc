//! `docs/performance/tables.md`: what was measured, and next to it why levee's table, and its batches, are as they are.

use super::contest::{AT_ONCE, Contestant, Row};
use crate::batches;
use crate::peers::Machine;
use crate::peers::plot::count;

/// Everything that stands there.
pub struct Page {
    /// Where it was measured.
    pub machine: Machine,
    /// In how many rounds.
    pub rounds: usize,
    /// Flow tables.
    pub tables: Vec<Row>,
    /// Batches.
    pub batches: Vec<batches::Row>,
}

/// How many a worker takes at once.
const BATCH: usize = levee_dataplane::worker::BATCH;

impl Page {
    /// The page, in Markdown.
    #[must_use]
    pub fn text(&self) -> String {
        let Machine { processor, cores, kernel, commit, command, date } = &self.machine;
        let sections = [
            format!(
                "# Flow tables and batches\n\nMade by `{command}`; not by hand.\n\n{processor}, {cores} cores, Linux {kernel}; commit {commit}, {date}. {HOW}",
                HOW = self.how()
            ),
            self.follows(),
            self.look_ahead(),
            self.begins(),
            self.replaces(),
            self.bytes(),
            self.reasons(),
            self.by_batch(),
            LIMITS.to_owned(),
        ];
        sections.iter().map(|section| format!("{}\n", section.trim_end())).collect::<Vec<_>>().join("\n")
    }

    fn how(&self) -> String {
        format!(
            "Everything is done {} times, each time from nothing and the same; it is timed in windows (1,024 packets, or \
             {BATCH} connections), and of each window the least of its times counts (`benches/src/tables/contest.rs` says why). All contestants do the same work, \
             which is checked in every window: both tuples of a connection lead to one entry, and a packet gets the ends that it leaves with. All have huge pages.",
            self.rounds
        )
    }

    /// Numbers of flows, from few to many.
    fn flows(&self) -> Vec<u32> {
        let mut flows: Vec<u32> = self.tables.iter().map(|row| row.flows).collect();
        flows.sort_unstable();
        flows.dedup();
        flows
    }

    fn row(&self, contestant: Contestant, flows: u32) -> Option<&Row> {
        self.tables.iter().find(|row| row.contestant == contestant && row.flows == flows)
    }

    /// A line for each contestant, a column for each number of flows.
    fn grid(&self, cell: impl Fn(&Row) -> String) -> String {
        let flows = self.flows();
        let heads = flows.iter().map(|flows| format!("{} flows", count(f64::from(*flows))));
        let lines = Contestant::ALL.into_iter().map(|contestant| {
            let cells = flows.iter().map(|flows| self.row(contestant, *flows).map_or_else(|| "–".into(), &cell));
            (contestant.name().to_owned(), cells.collect())
        });
        table(heads, lines)
    }

    fn follows(&self) -> String {
        let cell = |row: &Row| {
            let ns = row.follow(BATCH).unwrap_or_default();
            let own = self.row(Contestant::Today, row.flows).and_then(|own| own.follow(BATCH));
            let times = own.filter(|_| row.contestant != Contestant::Today).map(|own| format!(" ({:.1} ×)", ns / own));
            format!("{ns:.1} ns{}", times.unwrap_or_default())
        };
        format!(
            "## A packet is followed\n\nOf flows and directions drawn at random, {BATCH} at a time. In brackets: times what levee takes.\n\n{}",
            self.grid(cell)
        )
    }

    fn look_ahead(&self) -> String {
        let heads = AT_ONCE.iter().map(|size| if *size == 1 { "one".into() } else { size.to_string() });
        let lines = self.flows().into_iter().flat_map(|flows| {
            [Contestant::Today, Contestant::Reserved].into_iter().filter_map(move |contestant| {
                let cells = self.row(contestant, flows)?.follows.iter().map(|ns| format!("{ns:.1}"));
                Some((format!("{}, {} flows", contestant.name(), count(f64::from(flows))), cells.collect()))
            })
        });
        format!(
            "## Packets at a time\n\nNanoseconds a packet, by how many are looked at together: how far ahead memory is asked for. One is no look-ahead but \
             the processor's own.\n\n{}",
            table(heads, lines)
        )
    }

    fn begins(&self) -> String {
        format!(
            "## A connection begins, with room\n\nNanoseconds each, and microseconds of the {BATCH} that took longest: what whoever comes behind them waits.\n\n{}",
            self.grid(|row| format!("{:.0} ns, {}", row.begins, micros(row.longest_begin)))
        )
    }

    fn replaces(&self) -> String {
        let longest = |row: &Row| row.longest_replace.map_or_else(|| "–".into(), micros);
        format!(
            "## One ends and another begins, in a full table\n\nThe same; up to four million times. hashbrown's own hash is drawn anew for each map, so that no batch is the \
             same twice: its longest is not told.\n\n{}",
            self.grid(|row| format!("{:.0} ns, {}", row.replaces, longest(row)))
        )
    }

    fn bytes(&self) -> String {
        format!(
            "## Bytes a flow\n\nOf everything allocated, with that many flows there.\n\n{}",
            self.grid(|row| format!("{:.0}", row.bytes as f64 / f64::from(row.flows)))
        )
    }

    /// Each choice beside its figures.
    fn reasons(&self) -> String {
        use Contestant::{First, Growing, Keyed, Reserved, Today};
        let flows = self.flows();
        let Some(many) = flows.last().copied() else { return String::new() };
        let of = |contestant, flows, figure: &dyn Fn(&Row) -> Option<f64>| self.row(contestant, flows).and_then(figure);
        let at = |size: usize| move |row: &Row| row.follow(size);
        let ns = |figure: Option<f64>| figure.map_or_else(|| "–".into(), |ns| format!("{ns:.1} ns"));
        let pause = |figure: Option<f64>| figure.map_or_else(|| "–".into(), micros);
        let worst = |contestant| {
            flows.iter().filter_map(|flows| self.row(contestant, *flows)?.longest_replace).reduce(f64::max)
        };
        let per_flow = |contestant| of(contestant, many, &|row| Some(row.bytes as f64 / f64::from(row.flows)));
        let bytes = |figure: Option<f64>| figure.map_or_else(|| "–".into(), |bytes| format!("{bytes:.0} B"));
        let most = count(f64::from(many));
        let slower = flows.iter().filter_map(|flows| {
            let [own, other] = [Today, Reserved].map(|contestant| of(contestant, *flows, &at(BATCH)));
            let slower = own? > other?;
            slower.then(|| format!("{} flows: {}; hashbrown {}", count(f64::from(*flows)), ns(own), ns(other)))
        });
        let slower = slower.collect::<Vec<_>>().join(". ");
        let lines = [
            (
                "Memory is asked for in two steps over a batch: buckets, then entries",
                format!(
                    "{most} flows: {} one at a time, {} {BATCH} at a time; hashbrown {} and {}",
                    ns(of(Today, many, &at(1))),
                    ns(of(Today, many, &at(BATCH))),
                    ns(of(Reserved, many, &at(1))),
                    ns(of(Reserved, many, &at(BATCH)))
                ),
                "A packet misses the caches twice. Of a map only the second miss can be asked for early: where it will look is its own secret.",
            ),
            (
                "One cache line decides: twelve tags compared at once, and a count of keys that went elsewhere",
                format!(
                    "{most} flows: {}; at first, with two lines for each packet, tags one by one and flows of two lines, {}",
                    ns(of(Today, many, &at(BATCH))),
                    ns(of(First, many, &at(BATCH)))
                ),
                "Who is nobody's, as all of a flood are, is known to be so by that line too.",
            ),
            (
                "Fixed in size; its memory is there from the start",
                format!(
                    "longest {BATCH} that begin, {most} flows: {}; hashbrown growing: {}",
                    pause(of(Today, many, &|row| Some(row.longest_begin))),
                    pause(of(Growing, many, &|row| Some(row.longest_begin)))
                ),
                "Who grows moves everything, and packets wait for it; when the table is full, somebody is forgotten instead.",
            ),
            (
                "What ends leaves an empty slot, not a tombstone",
                format!(
                    "longest {BATCH} replaced in a full table of any size: {}; hashbrown, reserved: {}",
                    pause(worst(Today)),
                    pause(worst(Keyed))
                ),
                "A map that removes keys has to put itself in order at times, all of it at once, however much was reserved.",
            ),
            (
                "48 bytes an entry, 16 for both of its keys, any number of buckets",
                format!(
                    "{} a flow; at first {}; hashbrown {}, growing {}",
                    bytes(per_flow(Today)),
                    bytes(per_flow(First)),
                    bytes(per_flow(Reserved)),
                    bytes(per_flow(Growing))
                ),
                "Tuples stand in entries alone, the index has 16 bits of their hash; a power of two of buckets may be twice what is needed. More of it is in caches.",
            ),
            (
                "Its own keyed hash, two multiplications",
                format!(
                    "in hashbrown, {most} flows: {} by levee's, {} by its own",
                    ns(of(Keyed, many, &at(BATCH))),
                    ns(of(Reserved, many, &at(BATCH)))
                ),
                "hashbrown's own is faster by what it mixes less. levee's is known before the table is asked, and its key is drawn by levee at start: what is hashed is chosen by strangers, who must not aim at a bucket.",
            ),
            (
                "What that costs",
                slower,
                "With all of it in the caches a map is faster, at connections that begin as well. levee's says more besides: whether what was decided still holds, the next hop, what becomes of checksums. \
                 Nobody has a balancer for its thousand flows; the difference is what the pipeline has in hand there.",
            ),
        ];
        let lines = lines.map(|(choice, figures, why)| (choice.to_owned(), vec![figures, why.to_owned()]));
        let text = lines.map(|(choice, cells)| format!("| {choice} | {} |\n", cells.join(" | "))).concat();
        format!("## Why levee's is as it is\n\n| choice | figures | reason |\n|---|---|---|\n{text}")
    }

    fn by_batch(&self) -> String {
        let heads = batches::SIZES.iter().map(|size| if *size == 1 { "one".into() } else { size.to_string() });
        let mut flows: Vec<u32> = self.batches.iter().map(|row| row.flows).collect();
        flows.dedup();
        let ns = |flows: u32, size: usize| {
            self.batches.iter().find(|row| (row.flows, row.at_once) == (flows, size)).map(|row| row.ns)
        };
        let line = |flows: u32, cell: &dyn Fn(usize, f64) -> String| {
            batches::SIZES
                .iter()
                .map(|size| ns(flows, *size).map_or_else(|| "–".into(), |ns| cell(*size, ns)))
                .collect()
        };
        let mut lines: Vec<(String, Vec<String>)> = flows
            .iter()
            .map(|flows| (format!("{} flows", count(f64::from(*flows))), line(*flows, &|_, ns| format!("{ns:.1}"))))
            .collect();
        if let Some(most) = flows.last() {
            let lasts = line(*most, &|size, ns| format!("{:.1} µs", size as f64 * ns / 1e3));
            lines.push((format!("{} flows: all of them last", count(f64::from(*most))), lasts));
        }
        format!(
            "## Frames that a worker takes at once\n\nNanoseconds a packet of the whole way over memory, established flows by `nat`, a turn's own costs included. It takes {BATCH}: \
             [`0032-batches.md`](../decisions/0032-batches.md) says why.\n\n{}",
            table(heads, lines)
        )
    }
}

/// What must be known of all this.
const LIMITS: &str = "## What these numbers do not mean

- **Least of several rounds**: what a table does, without what the machine did besides. On a busy one caches and memory are others' too, and what misses them takes longer
  for everybody; compare within a run.
- **No packets**: a follow here is a lookup, an entry read and written, and ends given out; parsing and rewriting are in the last table only.
- **hashbrown at its best**: keys of IPv4 alone, 16 bytes; entries of as many bytes as levee's; reserved, its memory was touched before; on huge pages, by
  `GLIBC_TUNABLES=glibc.malloc.hugetlb=1`. It ages nobody, and evicts nobody.
- **levee at first** is its index, lookup and flows of commit 0810e96 (`benches/src/tables/first.rs`), with keys for both families.
- **Replacing, in a map of ten million**, is tried four million times: it would have to put itself in order some time later.
";

/// Nanoseconds, as people read them.
fn micros(ns: f64) -> String {
    match ns / 1e3 {
        micros if micros >= 10_000.0 => format!("{:.0} ms", micros / 1e3),
        micros if micros >= 1_000.0 => format!("{:.1} ms", micros / 1e3),
        micros => format!("{micros:.1} µs"),
    }
}

/// In Markdown.
fn table(heads: impl Iterator<Item = String>, lines: impl IntoIterator<Item = (String, Vec<String>)>) -> String {
    let heads: Vec<String> = heads.collect();
    let mut text = format!("| | {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(heads.len()));
    for (name, cells) in lines {
        text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(contestant: Contestant, flows: u32, ns: f64) -> Row {
        Row {
            contestant,
            flows,
            begins: ns,
            longest_begin: ns * 1e6,
            follows: AT_ONCE.iter().map(|at_once| ns / *at_once as f64).collect(),
            replaces: ns,
            longest_replace: (contestant == Contestant::Today).then_some(ns * 1e3),
            bytes: 64 * flows as usize,
            huge: 0,
        }
    }

    #[test]
    fn everybody_stands_in_every_table_and_each_choice_has_its_figures() {
        let machine = Machine::here("abc1234", "./scripts/bench tables --docs");
        let tables = [1_000, 10_000_000].into_iter().flat_map(|flows| {
            Contestant::ALL
                .into_iter()
                .zip(1..)
                .map(move |(contestant, place)| row(contestant, flows, f64::from(place) * 64.0))
        });
        let batches = batches::SIZES.map(|at_once| batches::Row { flows: 1_000, at_once, ns: 20.0 }).to_vec();
        let text = Page { machine, rounds: 3, tables: tables.collect(), batches }.text();
        for part in [
            "commit abc1234",
            "Everything is done 3 times",
            "| levee | 1.0 ns | 1.0 ns |",
            "| levee, at first | 2.0 ns (2.0 ×) | 2.0 ns (2.0 ×) |",
            "| levee, 10 M flows | 64.0 | 16.0 | 8.0 | 4.0 | 2.0 | 1.0 | 0.5 | 0.2 |",
            "| levee | 64 ns, 64 ms | 64 ns, 64 ms |",
            "| hashbrown, reserved | 256 ns, – | 256 ns, – |",
            "10 M flows: 64.0 ns one at a time, 1.0 ns 64 at a time; hashbrown 256.0 ns and 4.0 ns",
            "| 1,000 flows: all of them last | 0.0 µs | 0.2 µs | 0.3 µs | 0.6 µs | 1.3 µs | 2.6 µs | 5.1 µs |",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        for line in text.lines().filter(|line| line.starts_with("| ") && !line.contains("–")) {
            assert!(!line.contains("NaN") && !line.contains("inf"), "{line}");
        }
    }

    #[test]
    fn with_nothing_measured_there_is_a_page_all_the_same() {
        let page = Page { machine: Machine::here("", ""), rounds: 1, tables: Vec::new(), batches: Vec::new() };
        assert!(page.text().contains("## A packet is followed"));
    }

    #[test]
    fn times_are_written_as_people_read_them() {
        assert_eq!(
            [900.0, 12_345.0, 1_100_000.0, 396_000_000.0].map(micros),
            ["0.9 µs", "12.3 µs", "1.1 ms", "396 ms"]
        );
    }
}
