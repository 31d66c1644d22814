//! Pictures of machines, and of what follows from them: where workers sit, their rings, whom they try first.
//!
//! They are in `tests/topology/pictures`; `BEAT_BLESS=1 cargo test --test topology` draws them anew.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use beat::Pinning;
use beat::topology::{CpuSet, Neighbours, Placement, Ring, Topology};

use crate::machines;

/// splitmix64: the same numbers each time. Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
pub(crate) fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn draw(machine: &Topology) -> String {
    let mut picture = machine.to_string();
    let policies = [
        ("cores", Pinning::Cores),
        ("physical cores", Pinning::PhysicalCores),
        ("threads", Pinning::Threads),
        ("cache groups", Pinning::CacheGroup),
        ("nodes", Pinning::Node),
    ];
    for (name, pinning) in policies {
        let placement = machine.place(&pinning, machine.room(&pinning)).unwrap().to_string();
        writeln!(picture, "\npinned to {name}").unwrap();
        let (lines, most) = (placement.lines().count(), 16);
        for line in placement.lines().take(most) {
            writeln!(picture, "  {line}").unwrap();
        }
        if lines > most {
            writeln!(picture, "  ... and {} more lines", lines - most).unwrap();
        }
    }
    for pinning in [Pinning::Cores, Pinning::Node] {
        let placement = machine.place(&pinning, machine.room(&pinning)).unwrap();
        let neighbours = Neighbours::new(machine, &placement);
        let workers = neighbours.workers();
        let name = if pinning == Pinning::Cores { "cores" } else { "nodes" };
        let mut shown = vec![0, workers / 2, workers - 1];
        shown.dedup();
        for worker in shown {
            let cpus = &placement.cpus()[worker];
            writeln!(picture, "\npinned to {name}: around worker {worker} on {cpus}").unwrap();
            draw_rings(&mut picture, &neighbours, worker, &placement);
        }
    }
    picture
}

/// Each ring: how many are in it, and where those sit who are tried first; or who they are, if each may be on many CPUs.
fn draw_rings(picture: &mut String, neighbours: &Neighbours, worker: usize, placement: &Placement) {
    let most = 12;
    let mut victims = neighbours.victims(worker, random(1)).collect::<Vec<_>>().into_iter();
    for ring in neighbours.rings(worker) {
        let n = ring.workers.len();
        let victims: Vec<_> = victims.by_ref().take(n).collect();
        let (name, distance) = (format!("{:?}", ring.ring), ring.distance);
        write!(picture, "  {name:7} at {distance:>2}: {n:>3}, ").unwrap();
        if placement.cpus()[worker].len() == 1 {
            let tried = victims.iter().take(most).map(|&victim| placement.cpus()[victim].to_string());
            let more = if n > most { " ..." } else { "" };
            writeln!(picture, "tried in the order {}{more}", tried.collect::<Vec<_>>().join(" ")).unwrap();
        } else {
            writeln!(picture, "workers {}", ring.workers.into_iter().collect::<CpuSet>()).unwrap();
        }
    }
}

fn check(name: &str, machine: &Topology, wrong: &mut Vec<String>) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/topology/pictures/{name}.txt"));
    let is = draw(machine);
    if env::var_os("BEAT_BLESS").is_some() {
        fs::write(&page, &is).unwrap();
    }
    let was = fs::read_to_string(&page).unwrap_or_default();
    if is != was {
        wrong.push(format!("{name} is drawn differently; if that is meant, run with BEAT_BLESS=1:\n{is}"));
    }
}

#[test]
fn machines_look_as_they_are_drawn() {
    let mut wrong = Vec::new();
    for (name, machine) in machines::topologies() {
        check(name, &machine, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The rings by their definition, worker by worker.
#[test]
fn rings_are_what_pairs_of_cpus_share() {
    for (_, machine) in machines::topologies() {
        for pinning in [Pinning::Cores, Pinning::Threads] {
            let placement = machine.place(&pinning, machine.room(&pinning)).unwrap();
            let neighbours = Neighbours::new(&machine, &placement);
            let cpu = |worker: usize| machine.cpu(placement.cpus()[worker].first().unwrap()).unwrap();
            for worker in (0..neighbours.workers()).step_by(7) {
                let mut seen = vec![worker];
                for ring in neighbours.rings(worker) {
                    for &other in &ring.workers {
                        assert_eq!(machine.ring(cpu(worker).id, cpu(other).id), Some(ring.ring));
                        let distance = machine.distance(cpu(worker).node, cpu(other).node);
                        assert_eq!(distance, Some(ring.distance));
                    }
                    seen.extend(ring.workers);
                }
                seen.sort_unstable();
                assert_eq!(seen, (0..neighbours.workers()).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn each_victim_comes_once_and_the_near_ones_first() {
    for (_, machine) in machines::topologies().filter(|(_, machine)| machine.cpus().len() < 200) {
        let placement = machine.place(&Pinning::Cores, machine.room(&Pinning::Cores)).unwrap();
        let neighbours = Neighbours::new(&machine, &placement);
        for worker in 0..neighbours.workers() {
            for seed in 0..20 {
                let mut victims = neighbours.victims(worker, random(seed));
                let (mut seen, mut order) = (vec![worker], Vec::new());
                while let Some(victim) = victims.next() {
                    seen.push(victim);
                    order.push(victims.ring().unwrap());
                }
                assert!(order.is_sorted(), "{order:?}");
                seen.sort_unstable();
                assert_eq!(seen, (0..neighbours.workers()).collect::<Vec<_>>());
                let near = neighbours.near_victims(worker, random(seed)).count();
                let is_near = |ring: &&Ring| **ring < Ring::Remote;
                let expected = match order.iter().filter(is_near).count() {
                    0 => order.len(),
                    near => near,
                };
                assert_eq!(near, expected);
            }
        }
    }
}

/// Inside a ring everybody is tried first about as often as everybody else, and last.
#[test]
fn nobody_in_a_ring_is_preferred() {
    let machine: Topology = "core:25 pu:1".parse().unwrap();
    let neighbours = Neighbours::new(&machine, &machine.place(&Pinning::Cores, 25).unwrap());
    let (mut first, mut last, mut random) = ([0; 25], [0; 25], random(7));
    let rounds = 24_000;
    for _ in 0..rounds {
        let mut victims = neighbours.victims(3, &mut random);
        first[victims.next().unwrap()] += 1;
        last[victims.last().unwrap()] += 1;
    }
    for counts in [first, last] {
        assert_eq!(counts[3], 0);
        let others: Vec<_> = counts.into_iter().filter(|&n| n > 0).collect();
        // 1,000 each, with a deviation of 31.
        assert!(others.len() == 24 && others.iter().all(|n| (800..1200).contains(n)), "{others:?}");
    }
}

/// More workers than any runtime has: the steps still meet everybody.
#[test]
fn rings_of_any_size_are_walked_through() {
    for workers in [1, 2, 3, 4, 6, 30, 210, 255, 256, 8209, 9000] {
        let machine: Topology = "core:2 pu:1".parse().unwrap();
        let neighbours = Neighbours::new(&machine, &machine.place(&Pinning::None, workers).unwrap());
        for seed in 0..16 {
            let mut victims: Vec<_> = neighbours.victims(0, random(seed)).collect();
            victims.sort_unstable();
            assert!(victims.iter().copied().eq(1..workers), "{workers}");
        }
    }
    let machine: Topology = "core:2 pu:1".parse().unwrap();
    let neighbours = Neighbours::new(&machine, &machine.place(&Pinning::Cores, 2).unwrap());
    assert_eq!(neighbours.victims(2, || 0).count(), 0);
}
