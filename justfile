# Each recipe is one command; logic lives in `poolproof` and in .ci/run.

# fmt + lint + test + doc: what to run before a commit
check: fmt lint test doc

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

test:
    cargo test --workspace

# the compatibility test that drives the embedded proxy with the toxiproxy_rust crate
test-toxiproxy:
    cargo test -p poolproof-faults --features toxiproxy

# the pool's proofs at full length: lock and wakers by loom and by shuttle's schedules, and then, with 2,000 programs instead of 200, the rollback property
prove-core programs='2000' schedules='100000':
    POOLPROOF_SCHEDULES={{schedules}} cargo test --release -p poolproof-pool --lib -- tests::models:: --show-output
    POOLPROOF_PROGRAMS={{programs}} cargo test --release -p poolproof-pool --test proof -- --show-output

# mutation tests of the pool's `state` or `sessions` (needs cargo-mutants); survivors: crates/pool/mutants.md
mutants part *flags:
    .ci/mutants {{part}} {{flags}}

# the pool against its peers; writes reports/bench/peers.json
bench *cases:
    cargo bench -p poolproof-pool --bench peers -- {{cases}}

# every fuzz target for so many seconds, guided by coverage (needs nightly and cargo-fuzz; see fuzz/README.md)
fuzz seconds='60':
    for target in $(cd fuzz && cargo +nightly fuzz list --fuzz-dir .); do fuzz/run "$target" {{seconds}} || exit $?; done

doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

# licences, advisories, sources (needs cargo-deny)
deny:
    cargo deny check

demo *flags:
    cargo run --release -- demo {{flags}}

run scenario seed='1':
    cargo run --release -- run scenarios/{{scenario}}.toml --seed {{seed}}

# the demo with seeds 1 to n, stopping at the first that does not pass
demo-seeds n='10':
    cargo build --release && for seed in $(seq 1 {{n}}); do ./target/release/poolproof demo --quiet --seed $seed || exit $?; done

report file='reports/latest/result.json':
    cargo run --release -- report {{file}}

# everything that decides whether a change lands
ci:
    .ci/run
