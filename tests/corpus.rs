//! The fuzz targets over the inputs that fuzzing has found worth keeping (`fuzz/corpus/`), without a fuzzer.

// The targets may panic like the test that runs them; clippy excuses only functions with `#[test]`.
#![allow(clippy::panic, clippy::indexing_slicing)]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

#[test]
fn every_input_of_the_corpus_keeps_what_its_target_promises() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::ALL {
        let folder = corpus.join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            if let Err(panic) = std::panic::catch_unwind(|| target(&input)) {
                eprintln!("input {}", path.display());
                std::panic::resume_unwind(panic);
            }
            inputs += 1;
        }
        assert!(inputs >= 10, "{}: {inputs} inputs", folder.display());
    }
}
