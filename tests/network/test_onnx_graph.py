"""ONNX graphs, run by ONNX Runtime: the scores of whatever heads there are."""

import dataclasses
import json
import os

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acai_jax.alerts.prepare import prepare_alerts
from acai_jax.alerts.sources import read_alerts
from acai_jax.network.bank import HeadBank, abstract_heads, apply_heads, choose_heads
from acai_jax.network.ensemble import ensemble_score
from acai_jax.network.exchange import load_shipped
from acai_jax.network.head import head_weights, with_weights
from acai_jax.network.head_config import HeadConfig
from acai_jax.network.onnx_graph import onnx_model
from acai_jax.network.pretrained import load_published
from acai_jax.score.scorer import Scorer
from acai_jax.surveys import SURVEYS

EXAMPLES = 200 if os.environ.get("ACAI_JAX_FUZZ") == "1" else 6
TOLERANCE = 1e-6


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model: bytes, features: np.ndarray, triplets: np.ndarray) -> np.ndarray:
    (score,) = session(model).run(["score"], {"features": features, "triplets": triplets})
    return score


def single(bank: HeadBank) -> list[bytes]:
    return [onnx_model(choose_heads(bank, [name])) for name in bank.classes]


def random_bank(config: HeadConfig, survey="ztf", members=1, temperatures=(), seed=0) -> HeadBank:
    """Heads of random weights, whose norms are those of trained ones."""
    survey, names = SURVEYS[survey], ("h", "kilonova")
    rng = np.random.default_rng(seed)
    heads = abstract_heads(config, len(names) * members, inputs=survey.inputs)
    weights = {
        name: rng.normal(0, 1 / np.sqrt(max(1, np.prod(leaf.shape[1:-1]))), leaf.shape)
        for name, leaf in head_weights(heads).items()
    }
    weights["norm.scale"] = rng.uniform(0.5, 2, weights["norm.scale"].shape)
    weights["norm.limit"] = rng.uniform(0.2, 2, weights["norm.limit"].shape)
    weights["norm.limit"][:, ::3] = np.inf
    weights["norm.floor"] = rng.choice((0.0, 0.1, 2.0), weights["norm.floor"].shape)
    with_floats = {name: array.astype(np.float32) for name, array in weights.items()}
    provenance = {name: {"version": "1"} for name in names}
    for name, temperature in zip(names, temperatures, strict=False):
        provenance[name]["temperature"] = temperature
    preset = next(iter(survey.recipes))
    return HeadBank(with_weights(heads, with_floats), names, provenance, preset, survey, members)


def random_inputs(bank: HeadBank, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng, inputs = np.random.default_rng(count), bank.survey.inputs
    features = rng.normal(size=(count, len(inputs.features))).astype(np.float32)
    features[0, 1] = inputs.sentinel
    return features, rng.normal(size=(count, *inputs.triplet)).astype(np.float32)


def ours(bank: HeadBank, features: np.ndarray, triplets: np.ndarray) -> np.ndarray:
    """The scores of `Scorer`, in a program of one batch that compiles fast."""

    def forward(heads, features, triplets):
        logits = apply_heads(heads, features, triplets)
        if bank.members > 1:
            logits = ensemble_score(logits, bank.members).logits
        return jax.nn.sigmoid(logits / bank.temperatures[None])

    options = {"xla_backend_optimization_level": 0}
    return np.asarray(jax.jit(forward, compiler_options=options)(bank.heads, features, triplets))


@pytest.fixture(scope="module")
def real_inputs(real_data) -> tuple[np.ndarray, np.ndarray]:
    """All 97 real alerts."""
    alerts = list(read_alerts([real_data / "alerts", real_data / "fink_alerts.parquet"]))
    prepared = prepare_alerts(alerts, "kowalski")
    assert prepared.features.shape == (97, 25)
    return prepared.features, prepared.triplets


def test_the_published_heads_score_real_alerts_alike(real_data, real_inputs):
    bank = load_published(real_data / "acai_h5")
    expected = Scorer(bank).score_arrays(*real_inputs)
    merged = run(onnx_model(bank), *real_inputs)
    np.testing.assert_allclose(merged, expected, atol=TOLERANCE, rtol=0)
    apart = [run(model, *real_inputs) for model in single(bank)]
    np.testing.assert_allclose(np.concatenate(apart, 1), expected, atol=TOLERANCE, rtol=0)


def test_trained_and_calibrated_heads_score_real_alerts_alike(real_inputs):
    bank = load_shipped("ztf-simulated")
    calibrated = {
        name: {**facts, "temperature": 0.5 + place}
        for place, (name, facts) in enumerate(bank.provenance.items())
    }
    bank = dataclasses.replace(bank, provenance=calibrated)
    expected = Scorer(bank).score_arrays(*real_inputs)
    assert ((expected > 0.01) & (expected < 0.99)).sum() > 50
    scores = run(onnx_model(bank), *real_inputs)
    np.testing.assert_allclose(scores, expected, atol=TOLERANCE, rtol=0)


WIDTHS = st.integers(1, 4)
# plain values: beartype, which checks what makes more of them, draws random numbers of its own
CONFIGS = st.fixed_dictionaries(
    {
        "filters": st.sampled_from((2, 4)).flatmap(
            lambda count: st.lists(WIDTHS, min_size=count, max_size=count).map(tuple)
        ),
        "dense_units": st.lists(WIDTHS, min_size=1, max_size=3).map(tuple),
        "kernel_size": st.integers(1, 4),
        "convolution": st.sampled_from(("separable", "regular")),
        "reduction": st.sampled_from(("average", "flatten")),
        "activation": st.sampled_from(("relu", "elu", "tanh")),
        "head_units": WIDTHS,
    }
)


@settings(max_examples=EXAMPLES)
@given(
    st.sampled_from(("lsst", "ztf")),
    CONFIGS,
    st.sampled_from((1, 3)),
    st.sampled_from(((), (2.5,), (0.5, 4.0))),
)
def test_heads_of_any_kind_score_alike(survey, config, members, temperatures):
    bank = random_bank(HeadConfig(**config), survey, members, temperatures)
    inputs = random_inputs(bank)
    scores = run(onnx_model(bank), *inputs)
    assert scores.shape == (3, 2)
    np.testing.assert_allclose(scores, ours(bank, *inputs), atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def tiny() -> HeadBank:
    config = HeadConfig(filters=(2, 2), dense_units=(3,), head_units=2)
    return random_bank(config, members=2, temperatures=(2.0,))


def test_an_ensemble_that_is_sure_is_calibrated_as_ours(tiny):
    sure = {name: array * 60 for name, array in head_weights(tiny.heads).items() if "score" in name}
    heads = with_weights(tiny.heads, head_weights(tiny.heads) | sure)
    bank = dataclasses.replace(tiny, heads=heads)
    inputs = random_inputs(bank, 32)
    scores = run(onnx_model(bank), *inputs)
    np.testing.assert_allclose(scores, ours(bank, *inputs), atol=TOLERANCE, rtol=0)


def test_what_is_no_number_has_no_score(tiny):
    features, triplets = random_inputs(tiny)
    features[0, 3] = np.nan
    triplets[2, 30, 30, 1] = np.nan
    scores = run(onnx_model(tiny), features, triplets)
    assert np.isnan(scores).all(1).tolist() == [True, False, True]


def test_the_form_is_that_of_brokers(tiny):
    model = onnx.load_from_string(onnx_model(tiny))
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    found = session(onnx_model(choose_heads(tiny, ["h"])))
    shapes = {value.name: value.shape for value in (*found.get_inputs(), *found.get_outputs())}
    assert shapes == {
        "features": ["batch", 25],
        "triplets": ["batch", 63, 63, 3],
        "score": ["batch", 1],
    }


def test_the_model_says_what_it_is(tiny):
    facts = session(onnx_model(tiny)).get_modelmeta().custom_metadata_map
    assert (facts["survey"], facts["preset"]) == ("ztf", "acai")
    assert json.loads(facts["classes"]) == ["h", "kilonova"]
    assert json.loads(facts["provenance"])["h"] == {"version": "1", "temperature": 2.0}
    assert facts["acai_jax_version"]
    others = session(onnx_model(random_bank(tiny.heads.config, members=2, seed=1)))
    assert facts["weights_sha256"] != others.get_modelmeta().custom_metadata_map["weights_sha256"]
    assert onnx_model(tiny) == onnx_model(tiny)
