//! Prints what each preset would choose on this machine, and what here argues against it.
//!
//! ```sh
//! cargo run --example explain
//! ```

use beat::Builder;

fn main() {
    let presets = [
        ("default", beat::Runtime::builder()),
        ("basic", Builder::basic()),
        ("performance", Builder::performance()),
        ("advanced", Builder::advanced()),
        ("development", Builder::development()),
    ];
    for (name, builder) in presets {
        println!("[{name}] {}", builder.explain());
    }
}
