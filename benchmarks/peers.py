"""The programs that score the same alerts with the same published weights, for comparison.

Every peer is rebuilt from the arrays of the published HDF5 files, because current Keras refuses to
load them. Heavy packages are imported where they are used, so that each peer needs only its own:
TensorFlow (with Keras 3), ONNX and ONNX Runtime; `original_scores` also fastavro and astropy.

Sources: Duev & van der Walt 2021, arXiv:2111.12142 (network and original scoring code);
BOOM, which feeds ONNX sessions with inputs `features` and `triplets` and reads output `score`.
"""

import gzip
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from acai_jax.classes import CLASSES
from acai_jax.network.pretrained import DEFAULT_GENERATION, GENERATIONS, read_keras_weights
from acai_jax.surveys.lsst import LSST, arrange
from acai_jax.surveys.ztf import FEATURE_NAMES, STAMP_SIZE

CONVOLUTIONS = ("conv_conv_1", "conv_conv_2", "conv_conv_3", "conv_conv_4")
LayerWeights = dict[str, list[np.ndarray]]
"""Layer name to its arrays in Keras order (depthwise, pointwise, bias; or kernel, bias)."""
Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""features (b, 25), triplets (b, 63, 63, 3), float32 -> scores (b, 5) in the order of CLASSES."""


def read_published_weights(directory: Path) -> list[LayerWeights]:
    """The five published heads' arrays, float32, in the order of CLASSES."""
    files = GENERATIONS[DEFAULT_GENERATION]
    heads = [read_keras_weights(directory / files[name].name) for name in CLASSES]
    return [{layer: list(named.values()) for layer, named in head.items()} for head in heads]


# Keras ------------------------------------------------------------------------------------------


def keras_network(filters: Sequence[int] = (16, 16, 32, 32)) -> Any:
    """One head, not trained, as a Keras 3 functional model with inputs [features, triplets]."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras
    from keras import layers

    features = keras.Input((len(FEATURE_NAMES),), name="features")
    triplets = keras.Input((STAMP_SIZE, STAMP_SIZE, 3), name="triplets")
    image = triplets
    for number, (name, count) in enumerate(zip(CONVOLUTIONS, filters, strict=True), start=1):
        image = layers.SeparableConv2D(count, 3, activation="relu", name=name)(image)
        if number % 2 == 0:
            image = layers.Dropout(0.25)(layers.MaxPooling2D(2)(image))
    image = layers.GlobalAveragePooling2D()(image)
    hidden = layers.Dense(64, activation="relu", name="dense_fc_1")(features)
    hidden = layers.Dense(32, activation="relu", name="dense_fc_2")(layers.Dropout(0.25)(hidden))
    joined = layers.Concatenate()([hidden, image])
    joined = layers.Dense(16, activation="relu", name="fc_1")(joined)
    score = layers.Dense(1, activation="sigmoid", name="score")(joined)
    return keras.Model([features, triplets], score)


def keras_model(weights: LayerWeights) -> Any:
    """The same with the weights of a published head."""
    model = keras_network([weights[name][2].size for name in CONVOLUTIONS])
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(arrays)
    return model


def keras_one_alert_at_a_time(heads: list[LayerWeights]) -> Scores:
    """The original's way: for each alert, five calls `model(inputs, training=False)`."""
    models = [keras_model(weights) for weights in heads]

    def score(features: np.ndarray, triplets: np.ndarray) -> np.ndarray:
        rows = []
        for index in range(len(features)):
            alert = [features[index : index + 1], triplets[index : index + 1]]
            rows.append([float(model(alert, training=False)[0, 0]) for model in models])
        return np.asarray(rows, np.float32)

    return score


def tensorflow_one_graph(heads: list[LayerWeights]) -> Scores:
    """The five Keras models traced into one `tf.function`, called with the whole batch."""
    import tensorflow as tf

    models = [keras_model(weights) for weights in heads]

    @tf.function(reduce_retracing=True)
    def graph(features: Any, triplets: Any) -> Any:
        return tf.concat([model([features, triplets], training=False) for model in models], axis=1)

    return lambda features, triplets: graph(tf.constant(features), tf.constant(triplets)).numpy()


# ONNX Runtime -----------------------------------------------------------------------------------


class _GraphBuilder:
    """Collects the nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def separable_convolution(self, image: str, name: str, arrays: list[np.ndarray]) -> str:
        depthwise, pointwise, bias = arrays
        kernels = [
            self.constant(f"{name}/depthwise", depthwise.transpose(2, 3, 0, 1)),
            self.constant(f"{name}/pointwise", pointwise.transpose(3, 2, 0, 1)),
            self.constant(f"{name}/bias", bias),
        ]
        channels = depthwise.shape[2]
        image = self.node("Conv", [image, kernels[0]], f"{name}/a", group=channels)
        image = self.node("Conv", [image, *kernels[1:]], f"{name}/b")
        return self.node("Relu", [image], f"{name}/c")

    def dense(self, vector: str, name: str, arrays: list[np.ndarray], activation: str) -> str:
        constants = [
            self.constant(f"{name}/kernel", arrays[0]),
            self.constant(f"{name}/bias", arrays[1]),
        ]
        vector = self.node("Gemm", [vector, *constants], f"{name}/gemm")
        return self.node(activation, [vector], f"{name}/out")

    def head(self, image: str, features: str, prefix: str, weights: LayerWeights) -> str:
        for number, name in enumerate(CONVOLUTIONS, start=1):
            image = self.separable_convolution(image, f"{prefix}/{name}", weights[name])
            if number % 2 == 0:
                window = {"kernel_shape": [2, 2], "strides": [2, 2]}
                image = self.node("MaxPool", [image], f"{prefix}/{name}/pool", **window)
        image = self.node("GlobalAveragePool", [image], f"{prefix}/average")
        image = self.node("Flatten", [image], f"{prefix}/flat")
        hidden = features
        for name in ("dense_fc_1", "dense_fc_2"):
            hidden = self.dense(hidden, f"{prefix}/{name}", weights[name], "Relu")
        joined = self.node("Concat", [hidden, image], f"{prefix}/joined", axis=1)
        joined = self.dense(joined, f"{prefix}/fc_1", weights["fc_1"], "Relu")
        return self.dense(joined, f"{prefix}/score", weights["score"], "Sigmoid")


def onnx_model(heads: list[LayerWeights]) -> bytes:
    """An ONNX graph of some heads: inputs `features`, `triplets`; output `score` (b, heads)."""
    import onnx
    from onnx import TensorProto, helper

    builder = _GraphBuilder()
    image = builder.node("Transpose", ["triplets"], "image", perm=[0, 3, 1, 2])
    outputs = [
        builder.head(image, "features", f"head_{index}", weights)
        for index, weights in enumerate(heads)
    ]
    builder.node("Concat", outputs, "score", axis=1)

    def tensor(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    inputs = [
        tensor("features", "batch", len(FEATURE_NAMES)),
        tensor("triplets", "batch", STAMP_SIZE, STAMP_SIZE, 3),
    ]
    graph = helper.make_graph(
        builder.nodes, "acai", inputs, [tensor("score", "batch", len(heads))], builder.constants
    )
    # opset 17 with intermediate representation 8 is read by every ONNX Runtime since 1.12
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_five_sessions(heads: list[LayerWeights]) -> Scores:
    """As BOOM does: five sessions with one intra-op thread each, called in turn on the batch."""
    sessions = [_session(onnx_model([weights]), threads=1) for weights in heads]

    def score(features: np.ndarray, triplets: np.ndarray) -> np.ndarray:
        feeds = {"features": features, "triplets": triplets}
        return np.concatenate([session.run(["score"], feeds)[0] for session in sessions], axis=1)

    return score


def onnx_merged_graph(heads: list[LayerWeights], threads: int = 2, chunk: int = 8) -> Scores:
    """ONNX Runtime at its best here: one graph of all heads, two threads, small chunks."""
    session = _session(onnx_model(heads), threads)

    def score(features: np.ndarray, triplets: np.ndarray) -> np.ndarray:
        rows = []
        for start in range(0, len(features), chunk):
            stop = start + chunk
            feeds = {"features": features[start:stop], "triplets": triplets[start:stop]}
            rows.append(session.run(["score"], feeds)[0])
        return np.concatenate(rows)

    return score


class Peer(NamedTuple):
    """A peer's name, how to build it, and how many alerts suffice to time it (None: any)."""

    name: str
    build: Callable[[list[LayerWeights]], Scores]
    most_alerts: int | None = None


PEERS = (
    # its speed does not depend on the batch
    Peer("Keras, 5 calls per alert", keras_one_alert_at_a_time, most_alerts=8),
    Peer("TensorFlow, 1 graph", tensorflow_one_graph),
    Peer("ONNX Runtime as BOOM, 5 sessions", onnx_five_sessions),
    Peer("ONNX Runtime at its best, 1 graph", onnx_merged_graph),
)


# The original's way from packet to scores -------------------------------------------------------


def original_stamp(data: bytes) -> np.ndarray:
    """One gzipped FITS cutout as the original prepares it: float32 (63, 63)."""
    from astropy.io import fits

    with (
        gzip.open(io.BytesIO(data), "rb") as stream,
        fits.open(io.BytesIO(stream.read()), ignore_missing_simple=True) as units,
    ):
        first: Any = units[0]
        image = np.nan_to_num(first.data)
    with np.errstate(over="ignore"):  # the norm overflows at template edges of 3.4e38
        image = image / np.linalg.norm(image)
    missing = [(0, STAMP_SIZE - size) for size in image.shape]
    return np.pad(image, missing, constant_values=1e-9).astype(np.float32)


def original_inputs(alert: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Features (1, 25) and triplet (1, 63, 63, 3) of one decoded packet, float32."""
    cutouts = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    triplet = np.stack([original_stamp(alert[name]["stampData"]) for name in cutouts], axis=-1)
    features = [alert["candidate"].get(name) for name in FEATURE_NAMES]
    return np.asarray([features], np.float32), triplet[np.newaxis]


def lsst_stamp(data: bytes) -> np.ndarray:
    """One cutout of LSST's by astropy: float32 (30, 30), the middle, divided by its norm."""
    from astropy.io import fits

    with fits.open(io.BytesIO(data)) as units:
        first: Any = units[0]
        image = np.nan_to_num(first.data.astype(np.float32))
    side = LSST.inputs.stamp
    top, left = ((size - side) // 2 for size in image.shape)
    image = image[top : top + side, left : left + side]
    return image / np.linalg.norm(image)


def lsst_packets(container: IO[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """LSST's packets by fastavro and astropy; the features' arithmetic is ours."""
    import fastavro

    return map(_lsst_inputs, fastavro.reader(container))


def _lsst_inputs(alert: Any) -> tuple[np.ndarray, np.ndarray]:
    fields = arrange(alert)[LSST.record]
    features = np.array([fields[name] for name in LSST.inputs.features], np.float32)
    return features, np.stack([lsst_stamp(alert[name]) for name in LSST.cutouts], axis=-1)


def original_scores(path: Path, score: Scores) -> Iterator[np.ndarray]:
    """Yields each alert's five scores as the original makes them, one alert at a time.

    `path` is an Avro file or a directory of them; `score` is `keras_one_alert_at_a_time(heads)`.
    A null feature makes every score NaN, as a null `drb` does in the original without braai.
    """
    import fastavro

    files = sorted(path.glob("*.avro")) if path.is_dir() else [path]
    for file in files:
        with file.open("rb") as stream:
            alert: Any
            for alert in fastavro.reader(stream):
                yield score(*original_inputs(alert))[0]
