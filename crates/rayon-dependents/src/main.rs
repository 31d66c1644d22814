//! What released packages that use rayon do with it: each line of the standard input names a program, and the answer is
//! how many nanoseconds a run of it took, after one for warming up. Results are checked.
//!
//! The same program is built on rayon's rayon-core and on Beat's, and asked in turn: see `scripts/rayon-dependents`.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use ndarray::{Array2, Zip};
use rayon::prelude::*;

/// Multiplied, so that no key is near the one before.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const ENTRIES: u64 = 200_000;
const SIDE: usize = 1_000;
/// How many directories there are, and files in each.
const DIRECTORIES: usize = 60;
const FILES: usize = 40;

/// A program, which gives a number, and that number.
struct Program {
    run: Box<dyn Fn() -> u64>,
    result: u64,
}

impl Program {
    fn new(run: impl Fn() -> u64 + 'static, result: u64) -> Self {
        Self { run: Box::new(run), result }
    }

    fn time(&self) -> u128 {
        let began = Instant::now();
        let result = black_box((self.run)());
        let time = began.elapsed().as_nanos();
        assert_eq!(result, self.result, "a wrong result");
        time
    }
}

fn key(index: u64) -> u64 {
    index.wrapping_mul(SPREAD)
}

fn keys() -> impl Iterator<Item = (u64, u64)> {
    (0..ENTRIES).map(|index| (key(index), index))
}

/// Some arithmetic for an element.
fn stir(value: u64) -> u64 {
    (0..20).fold(value, |value, _| (value ^ value >> 29).wrapping_mul(SPREAD))
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::wrapping_add)
}

fn indexmap_sum() -> Program {
    let map: indexmap::IndexMap<u64, u64> = keys().collect();
    let result = sum(map.values().map(|value| stir(*value)));
    Program::new(move || map.par_values().map(|value| stir(*value)).reduce(|| 0, u64::wrapping_add), result)
}

fn indexmap_sort() -> Program {
    let map: indexmap::IndexMap<u64, u64> = keys().collect();
    let smallest = map.keys().min().copied().unwrap_or_default();
    Program::new(
        move || {
            let mut map = map.clone();
            map.par_sort_unstable_keys();
            map.get_index(0).map_or(0, |(key, _)| *key)
        },
        smallest,
    )
}

fn hashbrown_sum() -> Program {
    let map: hashbrown::HashMap<u64, u64> = keys().collect();
    let result = sum(map.values().map(|value| stir(*value)));
    Program::new(move || map.par_values().map(|value| stir(*value)).reduce(|| 0, u64::wrapping_add), result)
}

fn hashbrown_collect() -> Program {
    let collect = || {
        (0..ENTRIES).into_par_iter().map(|index| (key(index), index)).collect::<hashbrown::HashMap<_, _>>()
    };
    Program::new(move || collect().len() as u64, ENTRIES)
}

fn ndarray_zip() -> Program {
    let value = |(row, column): (usize, usize)| (row * SIDE + column) as f64;
    let a = Array2::from_shape_fn((SIDE, SIDE), value);
    let b = Array2::from_shape_fn((SIDE, SIDE), |(row, column)| value((column, row)));
    let at = |row, column| (value((row, column)).sqrt() + value((column, row)).sqrt()).to_bits();
    let result = at(SIDE / 2, SIDE / 3);
    Program::new(
        move || {
            let sums = Zip::from(&a).and(&b).par_map_collect(|a, b| a.sqrt() + b.sqrt());
            sums[(SIDE / 2, SIDE / 3)].to_bits()
        },
        result,
    )
}

fn ndarray_in_place() -> Program {
    let a = Array2::from_elem((SIDE, SIDE), 0.5_f64);
    let result = 0.5_f64.exp().ln_1p().to_bits();
    Program::new(
        move || {
            let mut a = a.clone();
            a.par_mapv_inplace(|value| value.exp().ln_1p());
            a[(SIDE - 1, SIDE - 1)].to_bits()
        },
        result,
    )
}

/// A tree of files to walk, removed when dropped.
struct Tree(PathBuf);

impl Tree {
    fn new() -> io::Result<Self> {
        let tree = Self(std::env::temp_dir().join(format!("rayon-dependents-{}", std::process::id())));
        for directory in 0..DIRECTORIES {
            let directory = tree.0.join(format!("{}/{directory}", directory % 7));
            fs::create_dir_all(&directory)?;
            for file in 0..FILES {
                fs::write(directory.join(file.to_string()), "")?;
            }
        }
        Ok(tree)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left lies below the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn jwalk_tree() -> io::Result<Program> {
    let tree = Tree::new()?;
    let files = move || {
        jwalk::WalkDir::new(&tree.0).into_iter().flatten().filter(|entry| entry.file_type().is_file())
    };
    Ok(Program::new(move || files().count() as u64, (DIRECTORIES * FILES) as u64))
}

fn program(name: &str) -> Result<Program, Box<dyn Error>> {
    Ok(match name {
        "indexmap: sum over 200,000 values" => indexmap_sum(),
        "indexmap: sort 200,000 keys" => indexmap_sort(),
        "hashbrown: sum over 200,000 values" => hashbrown_sum(),
        "hashbrown: collect 200,000 pairs" => hashbrown_collect(),
        "ndarray: zip two matrices of 1,000 x 1,000" => ndarray_zip(),
        "ndarray: exp and ln_1p of a matrix of 1,000 x 1,000" => ndarray_in_place(),
        "jwalk: 2,400 files in 67 directories" => jwalk_tree()?,
        _ => return Err(format!("there is no program {name:?}").into()),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut last: Option<(String, Program)> = None;
    for name in io::stdin().lock().lines() {
        let name = name?;
        if last.as_ref().is_none_or(|(last, _)| *last != name) {
            last = Some((name.clone(), program(&name)?));
        }
        if let Some((_, program)) = &last {
            program.time();
            println!("{}", program.time());
        }
        io::stdout().flush()?;
    }
    Ok(())
}
