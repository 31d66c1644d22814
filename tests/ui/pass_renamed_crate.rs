//! The crate under another name: the option takes a path, bare or as a string. The name `beat` is
//! taken by something else, so the expansion can use nothing but the path.

extern crate beat as engine;

mod beat {}

mod reexport {
    pub(crate) use engine as inner;
}

#[engine::main(crate = engine)]
async fn bare() {}

#[engine::main(crate = "crate::reexport::inner", pinning = "none")]
async fn quoted() {}

mod nested {
    #[engine::main(crate = super::engine)]
    pub(super) async fn relative() {}
}

fn main() {
    bare();
    quoted();
    nested::relative();
}
