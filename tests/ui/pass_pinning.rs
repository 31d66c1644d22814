//! Every way to pin one worker.

macro_rules! runs_pinned {
    ($($name:ident: $word:tt,)*) => {
        $(
            #[beat::main(worker_threads = 1, pinning = $word)]
            async fn $name() {
                beat::spawn(async {}).await.unwrap();
            }
        )*

        fn main() {
            $($name();)*
        }
    };
}

runs_pinned! {
    none: "none",
    cores: "cores",
    physical_cores: "physical_cores",
    threads: "threads",
    cache_group: "cache_group",
    node: "node",
}
