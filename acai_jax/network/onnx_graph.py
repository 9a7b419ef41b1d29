"""Heads as an ONNX graph, for programs that run such graphs: the broker BOOM is one.

The graph has the inputs `features` and `triplets`, as `apply_heads` takes them, and the output
`score`, a column for each class. Feature norms, ensembles and temperatures are in it.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from types import ModuleType
from typing import Any, Final

import numpy as np

from acai_jax.extras import require
from acai_jax.network.bank import HeadBank
from acai_jax.network.description import as_texts, describe
from acai_jax.network.head import head_weights
from acai_jax.network.head_config import HeadConfig

# every ONNX Runtime since 1.12 reads them
_OPSET: Final = 17
_IR: Final = 8
_ACTIVATIONS: Final = {"relu": "Relu", "elu": "Elu", "tanh": "Tanh"}


def onnx_model(bank: HeadBank) -> bytes:
    """An ONNX model of all heads of a bank.

    Args:
        bank: heads of any kind.

    Returns:
        The content of a `.onnx` file. Its metadata are the bank's description, as texts.

    Raises:
        MissingPackageError: the package `onnx` is not installed.

    Example:
        >>> from acai_jax.network.exchange import load_shipped
        >>> model = onnx_model(load_shipped("ztf-simulated"))
        >>> import onnx
        >>> [value.name for value in onnx.load_from_string(model).graph.output]
        ['score']

    Source: the operators of ONNX, opset 17.
    """
    onnx = require("onnx", "export")
    graph, inputs = _Graph(onnx), bank.survey.inputs
    graph.node("Transpose", ["triplets"], "image", perm=[0, 3, 1, 2])
    weights = {name: np.asarray(array) for name, array in head_weights(bank.heads).items()}
    logits = [
        _Head(
            graph, f"head_{place}", bank, {name: of[place] for name, of in weights.items()}
        ).logit()
        for place in range(len(bank.classes) * bank.members)
    ]
    _scores(graph, graph.node("Concat", logits, "logits", axis=1), bank)

    def tensor(name: str, *shape: int) -> Any:
        number = onnx.TensorProto.FLOAT
        return onnx.helper.make_tensor_value_info(name, number, ["batch", *shape])

    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "acai",
            [tensor("features", len(inputs.features)), tensor("triplets", *inputs.triplet)],
            [tensor("score", len(bank.classes))],
            graph.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="acai_jax",
        producer_version=metadata.version("acai_jax"),
    )
    onnx.helper.set_model_props(model, as_texts(describe(bank)))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


class _Graph:
    """Collects the nodes and constants of a graph."""

    def __init__(self, onnx: ModuleType) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        whole = np.ascontiguousarray(array)
        self.constants.append(self._onnx.numpy_helper.from_array(whole, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output


class _Head:
    """Adds one head to a graph."""

    def __init__(
        self, graph: _Graph, prefix: str, bank: HeadBank, weights: Mapping[str, np.ndarray]
    ) -> None:
        self._graph, self._prefix, self._weights = graph, prefix, weights
        self._config: HeadConfig = bank.heads.config
        self._missing = np.float32(bank.survey.inputs.sentinel)

    def logit(self) -> str:
        """What `Head.__call__` computes, layer by layer."""
        hidden = self._normalised()
        for place in range(1, len(self._config.dense_units) + 1):
            hidden = self._active(self._dense(hidden, f"dense_{place}"))
        joined = self._node("Concat", [hidden, self._image_features()], "joined", axis=1)
        return self._dense(self._active(self._dense(joined, "join")), "score")

    def _normalised(self) -> str:
        floor, centre, scale, limit, sentinel = (
            self._weights[f"norm.{name}"]
            for name in ("floor", "centre", "scale", "limit", "sentinel")
        )
        changed = (floor > 0) | (centre != 0) | (scale != 1) | (limit != np.inf)
        if not (changed | (sentinel != self._missing)).any():
            return "features"
        x = "features"
        if (floor > 0).any():
            least = self._constant("floor", np.where(floor > 0, floor, 1).astype(np.float32))
            log = self._node("Log", [self._node("Max", [x, least], "raised")], "log")
            x = self._node("Where", [self._constant("has_log", floor > 0), log, x], "values")
        x = self._node("Sub", [x, self._constant("centre", centre)], "centred")
        x = self._node("Div", [x, self._constant("scale", scale)], "scaled")
        x = self._node("Max", [x, self._constant("least", -limit)], "above")
        x = self._node("Min", [x, self._constant("limit", limit)], "measured")
        missing = self._constant("missing", np.array(self._missing))
        missing = self._node("Equal", ["features", missing], "is_missing")
        stand_in = self._constant("sentinel", sentinel)
        return self._node("Where", [missing, stand_in, x], "normalised")

    def _image_features(self) -> str:
        image = "image"
        for place in range(len(self._config.filters)):
            image = self._active(self._convolution(image, f"convs.{place}"))
            if place % 2:
                window = {"kernel_shape": [2, 2], "strides": [2, 2]}
                image = self._node("MaxPool", [image], f"pool_{place}", **window)
        if self._config.reduction == "average":
            image = self._node("GlobalAveragePool", [image], "average")
        else:
            image = self._node("Transpose", [image], "channels_last", perm=[0, 2, 3, 1])
        return self._node("Flatten", [image], "flat")

    def _convolution(self, image: str, name: str) -> str:
        bias = self._weight(f"{name}.bias")
        if self._config.convolution == "regular":
            kernel = self._weight(f"{name}.kernel", lambda array: array.transpose(3, 2, 0, 1))
            return self._node("Conv", [image, kernel, bias], name)
        depthwise = self._weight(f"{name}.depthwise", lambda a: a.transpose(2, 0, 1)[:, None])
        pointwise = self._weight(f"{name}.pointwise", lambda a: a.T[:, :, None, None])
        channels = self._weights[f"{name}.depthwise"].shape[-1]
        each = self._node("Conv", [image, depthwise], f"{name}.each", group=channels)
        return self._node("Conv", [each, pointwise, bias], name)

    def _dense(self, vector: str, name: str) -> str:
        weights = [self._weight(f"{name}.{part}") for part in ("kernel", "bias")]
        return self._node("Gemm", [vector, *weights], name)

    def _active(self, value: str) -> str:
        operator = _ACTIVATIONS[self._config.activation]
        return self._graph.node(operator, [value], f"{value}.active")

    def _weight(
        self, name: str, arranged: Callable[[np.ndarray], np.ndarray] = lambda array: array
    ) -> str:
        return self._constant(name, arranged(self._weights[name]))

    def _constant(self, name: str, array: np.ndarray) -> str:
        return self._graph.constant(f"{self._prefix}/{name}", array)

    def _node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        return self._graph.node(operator, inputs, f"{self._prefix}/{name}:0", **attributes)


def _scores(graph: _Graph, logits: str, bank: HeadBank) -> None:
    """Adds what makes scores of the logits of all heads."""
    if bank.members > 1:  # as `ensemble_score` does it
        shape = graph.constant("by_class", np.array([0, len(bank.classes), bank.members]))
        logits = graph.node("Reshape", [logits, shape], "logits/members")
        ones, zeros = _log_means(graph, logits)
        logits = graph.node("Sub", [ones, zeros], "logits/mean")
    if (bank.temperatures != 1).any():
        temperatures = graph.constant("temperatures", bank.temperatures)
        logits = graph.node("Div", [logits, temperatures], "logits/calibrated")
    graph.node("Sigmoid", [logits], "score")


def _log_means(graph: _Graph, logits: str) -> Iterator[str]:
    """Logarithms of the sums of the members' scores, and of 1 less them."""
    negative = graph.node("Neg", [logits], "logits/negative")
    for name, value in (("ones", negative), ("zeros", logits)):
        value = graph.node("Softplus", [value], f"logits/{name}/softplus")
        value = graph.node("Neg", [value], f"logits/{name}/each")
        axes = {"axes": [2], "keepdims": 0}
        yield graph.node("ReduceLogSumExp", [value], f"logits/{name}", **axes)
