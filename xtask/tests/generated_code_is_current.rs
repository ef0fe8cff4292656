//! What is committed as generated code is what `proto/` generates.

use xtask::codegen;

#[test]
fn generated_code_is_current() {
    let root = codegen::workspace_root();
    let committed = codegen::committed(&root).expect("reading the generated code");
    let generated = codegen::generate(&root).expect("generating");
    assert_eq!(
        committed.keys().collect::<Vec<_>>(),
        generated.keys().collect::<Vec<_>>(),
        "files differ: run `cargo xtask codegen`"
    );
    for (path, text) in &generated {
        assert!(
            committed.get(path) == Some(text),
            "{} differs: run `cargo xtask codegen`",
            path.display()
        );
    }
}
