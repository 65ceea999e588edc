//! Compiles the starts in C.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=floors.c");
    let program = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("floors");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .args([
            "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "floors.c", "-o",
        ])
        .arg(&program)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the benches need a C compiler; set CC"
    );
    println!("cargo::rustc-env=FLOORS={}", program.display());
}
