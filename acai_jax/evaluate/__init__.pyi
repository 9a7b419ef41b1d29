from .calibration import calibrate
from .labelled import AlertsSource, DatasetSource
from .results import Evaluation
from .run import Model, evaluate

__all__ = ["AlertsSource", "DatasetSource", "Evaluation", "Model", "calibrate", "evaluate"]
