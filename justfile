# What there is: `just --list`

# Everything CI runs, or some sections of it: `just check format lints`.
check *sections:
    bash .ci/run {{sections}}

# The tests, on both CPU backends.
test:
    cargo test --workspace --features ndarray,wgpu

# The tests on any devices, for example `just test-on wgpu:0,flex`. See docs/gpu.md.
test-on devices:
    LLAMA_ADAPTER_TEST_DEVICES={{devices}} cargo test --workspace --features ndarray,wgpu

# The tests on wgpu with Mesa's Vulkan driver for CPUs (Debian's mesa-vulkan-drivers and libvulkan1).
test-wgpu:
    VK_DRIVER_FILES="$(ls /usr/share/vulkan/icd.d/lvp_icd*.json | head -n 1)" XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}" \
        just test-on wgpu

# Lints, with warnings as errors.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features ndarray,wgpu -- -D warnings

# The documentation of every crate, in the browser.
docs:
    cargo doc --workspace --no-deps --open

# Makes the built-in model and its instructions again, from nothing but a seed.
assets:
    cargo run --release --example tiny_world -- --out target/tiny-world
    cp target/tiny-world/train.jsonl target/tiny-world/test.jsonl assets/instructions/
    cargo run --release --example pretrain_tiny -- target/tiny-world assets/tiny-llama

# Makes the built-in image encoder and the questions about pictures again, from nothing but a seed.
pictures:
    cargo run --release --example tiny_images -- --out target/tiny-pictures
    mkdir -p assets/pictures
    cp target/tiny-pictures/train.jsonl target/tiny-pictures/test.jsonl assets/pictures/
    cargo run --release --example train_tiny_vit -- assets/tiny-vit

# Makes the golden files again with PyTorch and PEFT, in a Python environment of its own.
golden:
    python3 -m venv target/golden
    target/golden/bin/pip install -r tests/golden/requirements.txt
    target/golden/bin/python tests/golden/make.py all \
        --smollm2-gguf "$(cargo run --release --quiet -- fetch smollm2-135m-instruct)"

# Licences and known holes of the dependencies (needs cargo-deny).
deny:
    cargo deny check

# Ours beside PEFT, transformers and llama.cpp; see bench/README.md.
bench *args:
    python3 bench/run.py {{args}}

# Each kernel beside plain tensor operations.
bench-kernels *args:
    cargo bench --workspace --features ndarray,wgpu --bench kernels -- {{args}}

# Instructions of two fixed pieces of work, by valgrind (needs it installed).
bench-instructions *args:
    python3 bench/instructions.py {{args}}

# The kernels' tests under valgrind: no access outside of memory, nothing read that was not written.
check-memory:
    bash crates/kernels/check-memory.sh

# The Python package, in target/wheels (needs maturin: `pip install maturin`).
wheel *args:
    maturin build --release --locked {{args}}
