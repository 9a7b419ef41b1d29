"""The sources of labelled alerts, under the name that programs may know them by."""

from acai_jax.evaluate.labelled import AlertsSource, DatasetSource

__all__ = ["AlertsSource", "DatasetSource"]
