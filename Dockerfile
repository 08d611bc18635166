# docker build -t llama-adapter .
# docker run --rm --user "$(id -u)" -v "$PWD:/work" llama-adapter train --output adapters/first
#
# For GPUs through Vulkan: build with --build-arg FEATURES=wgpu, run with --device /dev/dri (or --gpus all).
FROM rust:1-slim-bookworm AS build
ARG FEATURES=flex
WORKDIR /source
COPY . .
RUN cargo build --release --locked --features "$FEATURES" && strip target/release/llama-adapter

FROM debian:bookworm-slim
# Certificates for the Hugging Face Hub, pip for `fetch`, the Vulkan packages for the feature wgpu.
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends ca-certificates python3-pip libvulkan1 mesa-vulkan-drivers \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /source/target/release/llama-adapter /usr/local/bin/
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/llama-adapter/
ENV LLAMA_ADAPTER_CACHE=/work/.llama-adapter
WORKDIR /work
ENTRYPOINT ["llama-adapter"]
CMD ["--help"]
