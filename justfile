# `just --list` lists the recipes.

# Everything that CI runs, or selected sections: `just check format lints`.
check *sections:
    bash .ci/run {{sections}}

# The tests on both CPU backends.
test:
    cargo test --workspace --features ndarray,wgpu

# The tests on the given devices, for example `just test-on wgpu:0,flex`. See docs/gpu.md.
test-on devices:
    LLAMA_ADAPTER_TEST_DEVICES={{devices}} cargo test --workspace --features ndarray,wgpu

# The tests on wgpu with Mesa's software Vulkan driver (Debian's mesa-vulkan-drivers and libvulkan1).
test-wgpu:
    VK_DRIVER_FILES="$(ls /usr/share/vulkan/icd.d/lvp_icd*.json | head -n 1)" XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}" \
        just test-on wgpu

# Lints, with warnings as errors.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features ndarray,wgpu -- -D warnings

# Builds the API documentation of every crate and opens it in the browser.
docs:
    cargo doc --workspace --no-deps --open

# Regenerates the built-in model and its instructions from a seed.
assets:
    cargo run --release --example tiny_world -- --out target/tiny-world
    cp target/tiny-world/train.jsonl target/tiny-world/test.jsonl crates/built-in/assets/instructions/
    cargo run --release --example pretrain_tiny -- target/tiny-world crates/built-in/assets/tiny-llama

# Regenerates the built-in image encoder and the questions about images from a seed.
pictures:
    cargo run --release --example tiny_images -- --out target/tiny-pictures
    mkdir -p crates/built-in/assets/pictures
    cp target/tiny-pictures/train.jsonl target/tiny-pictures/test.jsonl crates/built-in/assets/pictures/
    cargo run --release --example train_tiny_vit -- crates/built-in/assets/tiny-vit

# Regenerates the golden files with PyTorch and PEFT, in a separate Python environment.
golden:
    python3 -m venv target/golden
    target/golden/bin/pip install -r tests/golden/requirements.txt
    target/golden/bin/python tests/golden/make.py all \
        --smollm2-gguf "$(cargo run --release --quiet -- fetch smollm2-135m-instruct)"

# Licenses and known vulnerabilities of the dependencies (needs cargo-deny).
deny:
    cargo deny check

# Compares our program with PEFT, transformers and llama.cpp; see bench/README.md.
bench *args:
    python3 bench/run.py {{args}}

# Ten minutes of mixed load with faults against the server; see bench/README.md.
soak *args:
    python3 bench/serve.py --soak 600 {{args}}

# Compares each kernel with unfused tensor operations.
bench-kernels *args:
    cargo bench --workspace --features ndarray,wgpu --bench kernels -- {{args}}

# Instruction counts of two fixed workloads (needs valgrind).
bench-instructions *args:
    python3 bench/instructions.py {{args}}

# The kernels' tests under valgrind: no invalid memory access, no use of uninitialized memory.
check-memory:
    bash crates/kernels/check-memory.sh

# Builds the Python package in target/wheels (needs maturin: `pip install maturin`).
wheel *args:
    maturin build --release --locked {{args}}
