"""Heads trained by us and by Keras on the same data, by the same protocol: whose errors are fewer?

    python -m benchmarks.training --workdir /tmp/training --max-epochs 15

Simulates and packages alerts, unless --dataset names a dataset. For each seed, trains our five
heads, then a Keras re-statement of the original network, head by head: the same rows, feature norm,
batches of 32, Adam with AMSGrad, validation loss, falling learning rate, early stopping and round
two, by Keras' own callbacks. Judges the test split. A balanced error is the mean of FNR and FPR at
the threshold where they meet; its intervals are from a bootstrap by object. Our heads also score
the real alerts, and are held to the published classifiers' decisions there.

Hours on two cores. What is finished stays in --workdir, and the same command goes on from there.
Results go to benchmarks/results/training-<device>.json.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from acai_jax.classes import CLASSES
from acai_jax.datasets.records import SplitArrays, load_split
from acai_jax.evaluate.bootstrap import interval, resample
from acai_jax.evaluate.figures import Ranking
from acai_jax.score.columns import score_columns
from acai_jax.score.scorer import Scorer, enable_compilation_cache
from acai_jax.surveys.ztf import SENTINEL
from acai_jax.training import Config, train
from acai_jax.training.members import members_of
from acai_jax.training.protocol import judge, norm_statistics, select_rows, validation_weights
from benchmarks import peers, timing

SEED_OF_ALERTS = 11
DRAWS = 1000


def package_alerts(folder: Path, count: int) -> Path:
    """A dataset of simulated alerts, unless it is there."""
    dataset = folder / "datasets"
    if not dataset.exists():
        alerts = folder / "simulated"
        simulate = ["simulate", "--count", str(count), "--seed", str(SEED_OF_ALERTS)]
        command = [sys.executable, "-m", "acai_jax", *simulate, "--out", str(alerts)]
        subprocess.run([*command, "--overwrite"], check=True)
        package = ["-m", "acai_jax", "package", str(alerts / "alerts")]
        labels = ["--labels", str(alerts / "labels.csv"), "--data-dir", str(dataset)]
        subprocess.run([sys.executable, *package, *labels], check=True)
    return dataset


# Ours ------------------------------------------------------------------------------------------


def train_ours(config: Config, workdir: Path, test: SplitArrays) -> np.ndarray:
    """Scores (n, 5) of the test split by heads that are trained, or were before."""
    bank = train(config, workdir)
    if bank is None:
        raise SystemExit("interrupted: the same command goes on")
    return Scorer(bank).score_arrays(test.features, test.triplets)


# Peer ------------------------------------------------------------------------------------------


class KerasProtocol:
    """Trains Keras models as `Config` says.

    Args:
        config: of the run.
        training: the split; its features are normalised in place.
        validation: likewise.
        test: likewise.
    """

    def __init__(
        self, config: Config, training: SplitArrays, validation: SplitArrays, test: SplitArrays
    ) -> None:
        self.config = config
        self.training, self.validation, self.test = training, validation, test
        norm = norm_statistics(training.features, config.feature_limit, SENTINEL)
        floor, centre, scale, limit, sentinel = norm.values()
        for split in (training, validation, test):
            missing = split.features == SENTINEL
            log = np.log(np.maximum(split.features, np.where(floor > 0, floor, 1)))
            values = np.where(floor > 0, log, split.features)
            split.features[:] = np.clip((values - centre) / scale, -limit, limit)
            split.features[missing] = np.broadcast_to(sentinel, missing.shape)[missing]

    def train(self, name: str, seed: int) -> np.ndarray:
        """Scores (n,) of the test split by one head that is trained now."""
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras

        config = self.config
        keras.utils.set_random_seed(1000 * seed + CLASSES.index(name))
        model = peers.keras_network()
        adam = keras.optimizers.Adam(config.learning_rate, amsgrad=True, epsilon=1e-7)
        model.compile(optimizer=adam, loss="binary_crossentropy")
        targets = self.training.labels == name
        member = next(member for member in members_of(config) if member.head == name)
        rows, dropped = select_rows(dataclasses.replace(member, seed=seed), targets)
        rng = np.random.default_rng([seed, CLASSES.index(name)])
        self._fit(model, name, rows, rng)
        called = self._scores(model, self.training, dropped) > 0.5
        if config.round_two and called.any():
            self._fit(model, name, np.concatenate([rows, dropped[called]]), rng)
        return self._scores(model, self.test, np.arange(len(self.test.labels)))

    def _fit(self, model: Any, name: str, rows: np.ndarray, rng: np.random.Generator) -> None:
        """A round, its order drawn from `rng`, until the validation loss stops to fall.

        The model keeps its best weights.
        """
        import keras

        config, split, validation = self.config, self.training, self.validation

        class Batches(keras.utils.PyDataset):
            def __init__(self) -> None:
                super().__init__()
                self.order = rng.permutation(rows)

            def __len__(self) -> int:
                return -(-len(rows) // config.batch_size)

            def __getitem__(self, index: int) -> tuple[Any, Any]:
                start = index * config.batch_size
                these = self.order[start : start + config.batch_size]
                targets = (split.labels[these] == name).astype(np.float32)[:, None]
                return (split.features[these], split.triplets[these]), targets

            def on_epoch_end(self) -> None:
                self.order = rng.permutation(rows)

        class Judge(keras.callbacks.Callback):
            """The validation loss as we take it; the callbacks after it follow it."""

            def on_epoch_end(callback, epoch: int, logs: Any = None) -> None:  # noqa: N805
                scores = self._scores(model, validation, np.arange(len(validation.labels)))
                clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
                targets = validation.labels == name
                weights = validation_weights(targets, config.balance)
                logits = np.log(clipped / (1 - clipped))
                logs["val_loss"] = judge(logits, targets, weights).loss
                print(f"Keras, {name}, epoch {epoch}: {logs['val_loss']:.4f}", flush=True)

        model.fit(
            Batches(),
            epochs=config.max_epochs,
            verbose=0,
            callbacks=[
                Judge(),
                keras.callbacks.ReduceLROnPlateau(
                    factor=config.plateau_factor, patience=config.plateau_patience, min_delta=0
                ),
                keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True),
            ],
        )

    def _scores(self, model: Any, split: SplitArrays, rows: np.ndarray) -> np.ndarray:
        found = [np.empty(0, np.float32)]
        for start in range(0, len(rows), 64):
            these = rows[start : start + 64]
            inputs = [split.features[these], split.triplets[these]]
            found.append(model.predict_on_batch(inputs)[:, 0])
        return np.concatenate(found)


# Judging ---------------------------------------------------------------------------------------


def balanced_errors(scores: np.ndarray, test: SplitArrays, name: str) -> Any:
    """Weights of the alerts -> the balanced errors of every seed; scores are (seeds, n)."""
    targets = test.labels == name
    rankings = [Ranking(one.astype(np.float64), targets) for one in scores]

    def errors(weights: np.ndarray | None = None) -> np.ndarray:
        figures = [ranking.figures(weights) for ranking in rankings]
        return np.array([(each.balanced_fnr + each.balanced_fpr) / 2 for each in figures])

    return errors


def judge_test(ours: np.ndarray, keras: np.ndarray, test: SplitArrays) -> list[dict[str, Any]]:
    """A row for each head; scores are (seeds, n, 5)."""
    _, objects = np.unique(test.object_ids, return_inverse=True)
    rows = []
    for column, name in enumerate(CLASSES):
        errors = [balanced_errors(scores[:, :, column], test, name) for scores in (ours, keras)]

        def means(counts: np.ndarray, errors: Any = errors) -> np.ndarray:
            first, second = (each(counts[objects]).mean() for each in errors)
            return np.array([first, second, first - second])

        draws = resample(int(objects.max()) + 1, means, DRAWS, seed=0)
        low, high = interval(draws)
        rows.append(
            {
                "head": name,
                "positives": int((test.labels == name).sum()),
                "ours": errors[0]().tolist(),
                "keras": errors[1]().tolist(),
                "ours_interval": [low[0], high[0]],
                "keras_interval": [low[1], high[1]],
                "difference_interval": [low[2], high[2]],
            }
        )
    return rows


def transfer(folders: list[Path], data: Path) -> list[dict[str, Any]]:
    """AUC of trained heads against the published ones' decisions on real alerts."""
    alerts, weights = data / "alerts", data / "acai_h5"
    published = Scorer.load(weights_dir=weights).score(alerts)
    columns = score_columns(published.columns)
    decisions = published.select(columns).to_numpy() > 0.5
    scored = published["reason"].is_null().to_numpy()
    found = []
    for folder in folders:
        scores = Scorer.load(folder, weights_dir=weights).score(alerts).select(columns).to_numpy()
        found.append(
            [
                Ranking(scores[scored, head].astype(np.float64), decisions[scored, head])
                .figures()
                .auc
                for head in range(len(columns))
            ]
        )
    return [
        {"head": name, "positives": int(decisions[scored, head].sum()), "auc": list(aucs)}
        for head, (name, aucs) in enumerate(zip(CLASSES, zip(*found, strict=True), strict=True))
    ]


def print_test(rows: list[dict[str, Any]]) -> None:
    table = Table(title="balanced error on the test split [%]: mean over seeds (95 %)")
    for column in ("head", "positives", "acai_jax", "Keras", "acai_jax - Keras", "each seed"):
        table.add_column(column, justify="right")

    def span(values: list[float]) -> str:
        return f"{100 * values[0]:.1f} to {100 * values[1]:.1f}"

    for row in rows:
        ours, keras = np.mean(row["ours"]), np.mean(row["keras"])
        seeds = (" ".join(f"{100 * each:.1f}" for each in row[who]) for who in ("ours", "keras"))
        table.add_row(
            row["head"],
            str(row["positives"]),
            f"{100 * ours:.2f} ({span(row['ours_interval'])})",
            f"{100 * keras:.2f} ({span(row['keras_interval'])})",
            f"{100 * (ours - keras):+.2f} ({span(row['difference_interval'])})",
            " / ".join(seeds),
        )
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Test errors of our heads, beside Keras.")
    parser.add_argument("--workdir", type=Path, required=True, help="keeps what is finished")
    parser.add_argument("--dataset", type=Path, help="a packaged dataset; by default simulated")
    parser.add_argument("--count", type=int, default=26_000, help="alerts to simulate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, default=100, help="of both, in each round")
    parser.add_argument("--one-round", action="store_true", help="leave out round two, of both")
    parser.add_argument("--data", type=Path, default=timing.DATA, help="real alerts and weights")
    arguments = parser.parse_args()
    enable_compilation_cache()
    workdir: Path = arguments.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    dataset = arguments.dataset or package_alerts(workdir, arguments.count)
    two = not arguments.one_round
    config = Config(dataset=dataset, max_epochs=arguments.max_epochs, round_two=two)
    test = load_split(dataset, "test")
    folders = [workdir / f"ours-{seed}" for seed in range(arguments.seeds)]
    ours = np.stack(
        [
            train_ours(Config(**{**vars(config), "seed": seed}), folder, test)
            for seed, folder in enumerate(folders)
        ]
    )
    splits = (load_split(dataset, name) for name in ("train", "validation", "test"))
    by_keras = KerasProtocol(config, *splits)
    keras = np.empty_like(ours)
    for seed in range(arguments.seeds):
        for column, name in enumerate(CLASSES):
            file = workdir / f"keras-{seed}-{name}.npy"
            if not file.exists():
                np.save(file, by_keras.train(name, seed))
            keras[seed, :, column] = np.load(file)
            print(f"Keras, seed {seed}, head {name}: done", flush=True)
    rows = judge_test(ours, keras, test)
    print_test(rows)
    on_real = transfer(folders, arguments.data)
    for row in on_real:
        aucs = " ".join(f"{auc:.3f}" for auc in row["auc"])
        print(f"real alerts, head {row['head']}, {row['positives']} positives: AUC {aucs}")
    splits_counts = {"train": len(by_keras.training.labels), "test": len(test.labels)}
    timing.write_results("training", [{"alerts": splits_counts, "test": rows, "real": on_real}])


if __name__ == "__main__":
    main()
