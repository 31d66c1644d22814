//! A function that another macro writes: its name, its options and its body arrive as fragments.

macro_rules! run {
    ($vis:vis $name:ident, $workers:expr, $micros:literal, $krate:path, $body:block) => {
        #[beat::main(worker_threads = $workers, heartbeat_us = $micros, crate = $krate)]
        $vis async fn $name() -> u32 $body
    };
}

run!(pub(crate) seven, 1, 100, ::beat, { std::future::ready(7).await });

fn main() {
    assert_eq!(seven(), 7);
}
