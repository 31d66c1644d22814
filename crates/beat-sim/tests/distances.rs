//! What stealing by distance is for, on a machine that is not at hand.

use beat_sim::{Costs, Machine, Outcome, Victims, Workload, simulate, simulate_with};

const SEEDS: u64 = 2;

/// The sum of some runs.
fn sum(machine: &Machine, victims: Victims, workload: &Workload) -> Outcome {
    let runs = (1..=SEEDS).map(|seed| simulate(machine, victims, workload, seed));
    runs.reduce(|mut sum, run| {
        sum.makespan += run.makespan;
        for (sum, steals) in sum.steals.iter_mut().zip(run.steals) {
            *sum += steals;
        }
        sum
    })
    .unwrap()
}

/// On two packages of 64 cores with two threads each.
fn far_steals_fall(workload: impl Fn(usize) -> Workload) {
    let machine = Machine::parse("2x64").unwrap();
    let workload = workload(machine.workers);
    let (rings, random) =
        (sum(&machine, Victims::Rings, &workload), sum(&machine, Victims::Random, &workload));
    let (few, many) = (rings.remote_steals(), random.remote_steals());
    assert!(many as f64 >= 6.5 * few as f64, "{many} remote steals of random victims, {few} by rings");
    // "Equal": within what seeds make of it.
    let (short, long) = (rings.makespan, random.makespan);
    assert!(short as f64 <= 1.02 * long as f64, "{short} ns by rings, {long} of random victims");
}

#[test]
fn of_the_fork_suite_fewer_halves_come_from_the_other_package() {
    far_steals_fall(Workload::fork);
}

#[test]
fn of_the_mixed_suite_fewer_halves_and_tasks_come_from_the_other_package() {
    far_steals_fall(Workload::mixed);
}

#[test]
fn where_nobody_is_nearer_than_others_rings_change_nothing() {
    let machine = Machine::parse("cores=16").unwrap();
    let workload = Workload::fork(16);
    let run = |victims| simulate(&machine, victims, &workload, 1);
    let (rings, random) = (run(Victims::Rings), run(Victims::Random));
    assert_eq!((rings.makespan, rings.all_steals()), (random.makespan, random.all_steals()));
}

#[test]
fn one_worker_needs_as_long_as_the_work_and_many_are_faster() {
    let costs = Costs::default();
    let nodes = 1_000_000;
    let on = |workers: usize| {
        let machine = Machine::parse(&format!("cores={workers}")).unwrap();
        simulate_with(&machine, Victims::Rings, &Workload::Tree { nodes }, 1, costs.clone()).makespan as f64
    };
    let work = nodes as f64 * (costs.node + costs.fork / 2.0);
    assert!((1.0..1.05).contains(&(on(1) / work)), "{} of {work}", on(1));
    assert!(on(2) < 0.6 * work);
    assert!(on(8) < 0.2 * work);
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let machine = Machine::parse("2x4").unwrap();
    let run = |seed| simulate(&machine, Victims::Rings, &Workload::mixed(16), seed);
    assert_eq!(run(7), run(7));
}
