"""Goldens of image encoders: tiny CLIP and DINOv2 models with the structure of each real size, and what their
processors make of photos. See README.md beside this file."""

import json
import os
import shutil

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    BitImageProcessor, BitImageProcessorPil, CLIPConfig, CLIPImageProcessor, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig,
    CLIPVisionConfig, Dinov2Config, Dinov2Model,
)

WIDTH, HEADS, INNER = 16, 2, 40
# Blocks and pixels of a patch as in the real ones; pictures small enough for a handful of patches.
CLIPS = {
    "clip-b32": dict(patch_size=32, image_size=96, num_hidden_layers=12),
    "clip-b16": dict(patch_size=16, image_size=48, num_hidden_layers=12),
    "clip-l14": dict(patch_size=14, image_size=42, num_hidden_layers=24),
}
DINOS = {
    # Learned for 5 x 5 patches, looked at with 3 x 3.
    "dinov2-small": dict(patch_size=14, image_size=70, num_hidden_layers=12, pixels=42),
    "dinov2-large": dict(patch_size=14, image_size=42, num_hidden_layers=24, pixels=42),
    "dinov2-giant": dict(patch_size=14, image_size=42, num_hidden_layers=40, pixels=56, use_swiglu_ffn=True),
}


def save(path, tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)


def shake(model, rng):
    """Every parameter anew: those of a fresh model are zeros and ones in many places."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype(np.float32))
            is_norm = parameter.dim() == 1 and name.endswith("weight") or "lambda" in name
            parameter.copy_(1 + 0.2 * noise if is_norm else 0.25 * noise)


def golden(folder, pixels, hidden, normed, projected=None):
    layers = [0, 1, len(hidden) // 2, len(hidden) - 1]
    tensors = {"pixels": pixels, "normed": normed} | {f"hidden.{layer}": hidden[layer] for layer in layers}
    if projected is not None:
        tensors["projected"] = projected
    save(os.path.join(folder, "golden.safetensors"), tensors)


def clip(folder, rng, sizes):
    sizes = dict(hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=INNER) | sizes
    vision = CLIPVisionConfig(projection_dim=12, **sizes)
    text = CLIPTextConfig(
        hidden_size=8, num_attention_heads=1, num_hidden_layers=1, intermediate_size=8, vocab_size=16, projection_dim=12,
        bos_token_id=1, eos_token_id=2)
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12)).eval()
    shake(model, rng)
    model.save_pretrained(folder)
    pixels = torch.from_numpy(rng.standard_normal((2, 3, sizes["image_size"], sizes["image_size"])).astype(np.float32))
    with torch.no_grad():
        out = model.vision_model(pixels, output_hidden_states=True)
        normed = model.vision_model.post_layernorm(out.last_hidden_state)
        projected = model.visual_projection(normed)
        features = model.get_image_features(pixels)
        features = getattr(features, "pooler_output", features)
    assert torch.allclose(projected[:, 0], features, atol=1e-6), "what the class token becomes"
    golden(folder, pixels, out.hidden_states, normed, projected)
    return model


def openai(path, model):
    """The same encoder as OpenAI's `clip` keeps it, in a PyTorch file."""
    own = model.state_dict()
    out = {}
    for name, to in [
        ("embeddings.class_embedding", "class_embedding"), ("embeddings.position_embedding.weight", "positional_embedding"),
        ("embeddings.patch_embedding.weight", "conv1.weight"), ("pre_layrnorm.weight", "ln_pre.weight"),
        ("pre_layrnorm.bias", "ln_pre.bias"), ("post_layernorm.weight", "ln_post.weight"),
        ("post_layernorm.bias", "ln_post.bias"),
    ]:
        out["visual." + to] = own["vision_model." + name]
    out["visual.proj"] = own["visual_projection.weight"].T.contiguous()
    for layer in range(model.config.vision_config.num_hidden_layers):
        a, b = f"vision_model.encoder.layers.{layer}.", f"visual.transformer.resblocks.{layer}."
        for kind in ["weight", "bias"]:
            parts = [own[f"{a}self_attn.{which}_proj.{kind}"] for which in "qkv"]
            out[f"{b}attn.in_proj_{kind}"] = torch.cat(parts)
            for name, to in [
                ("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
            ]:
                out[f"{b}{to}.{kind}"] = own[f"{a}{name}.{kind}"]
    out["logit_scale"] = own["logit_scale"]
    torch.save(out, path)


def dinov2(folder, rng, sizes):
    sizes = dict(sizes)
    pixels = sizes.pop("pixels")
    config = Dinov2Config(hidden_size=WIDTH, num_attention_heads=HEADS, mlp_ratio=3, **sizes)
    model = Dinov2Model(config).eval()
    shake(model, rng)
    model.save_pretrained(folder)
    pixels = torch.from_numpy(rng.standard_normal((2, 3, pixels, pixels)).astype(np.float32))
    with torch.no_grad():
        out = model(pixels, output_hidden_states=True)
    golden(folder, pixels, out.hidden_states, out.last_hidden_state)


def photos(folder):
    """Parts of photos of scikit-image, and what both processors make of them."""
    from skimage import data

    os.makedirs(folder, exist_ok=True)
    astronaut, coffee = Image.fromarray(data.astronaut()), Image.fromarray(data.coffee())
    astronaut.crop((100, 0, 361, 200)).save(os.path.join(folder, "astronaut.png"))
    coffee.crop((150, 50, 390, 400)).save(os.path.join(folder, "coffee.jpg"), quality=90)
    coffee.crop((150, 50, 250, 170)).save(os.path.join(folder, "coffee.webp"), lossless=True)
    clip = dict(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    dino = dict(
        size={"shortest_edge": 73}, crop_size={"height": 64, "width": 64}, resample=3, do_convert_rgb=True,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    # By Pillow, as OpenAI's own code; and by torchvision, whose weights have fewer digits.
    for name, pillow, torchvision in [
        ("clip", CLIPImageProcessorPil(**clip), CLIPImageProcessor(**clip)),
        ("dinov2", BitImageProcessorPil(**dino), BitImageProcessor(**dino)),
    ]:
        torchvision.save_pretrained(os.path.join(folder, name))
        for by, processor in (("pillow", pillow), ("torchvision", torchvision)):
            tensors = {}
            for file in ["astronaut.png", "coffee.jpg", "coffee.webp"]:
                picture = Image.open(os.path.join(folder, file)).convert("RGB")
                values = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0], dtype=np.float32)
                tensors[file] = torch.from_numpy(values)
            save(os.path.join(folder, name, by + ".safetensors"), tensors)


def real(out, folder):
    """What DINOv2-small's real weights, as bench/images/prepare.py makes them, see in a photo of 224 pixels."""
    processor = BitImageProcessorPil.from_pretrained(folder)
    picture = Image.open(os.path.join(out, "vision", "photos", "astronaut.png")).convert("RGB")
    pixels = torch.from_numpy(np.asarray(processor(picture, return_tensors="np")["pixel_values"], dtype=np.float32))
    with torch.no_grad():
        found = Dinov2Model.from_pretrained(folder).eval()(pixels, output_hidden_states=True)
    layers = (1, 6, 12)
    tensors = {f"hidden.{layer}": found.hidden_states[layer][:, :8] for layer in layers}
    save(os.path.join(out, "dinov2-small.safetensors"), tensors | {"normed": found.last_hidden_state[:, :8]})


def make(out):
    root = os.path.join(out, "vision")
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(0)
    for name, sizes in CLIPS.items():
        folder = os.path.join(root, name)
        clip(folder, rng, sizes)
    folder = os.path.join(root, "openai")
    # Heads of 64, as all of OpenAI's have: their files do not say.
    sizes = dict(hidden_size=128, num_attention_heads=2, intermediate_size=32, patch_size=8, image_size=24, num_hidden_layers=3)
    openai(os.path.join(folder, "model.pt"), clip(folder, rng, sizes))
    os.remove(os.path.join(folder, "model.safetensors"))
    os.remove(os.path.join(folder, "config.json"))
    for name, sizes in DINOS.items():
        dinov2(os.path.join(root, name), rng, sizes)
    photos(os.path.join(root, "photos"))
    # The config says all; what else transformers writes changes with its version.
    for folder, _, files in os.walk(root):
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)
            if file == "config.json":
                path = os.path.join(folder, file)
                config = json.load(open(path))
                config.pop("transformers_version", None)
                json.dump(config, open(path, "w"), indent=2)
