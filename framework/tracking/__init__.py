"""Journal, what is shown, and the projection into MLflow. Training code needs `Tracker`, and never imports mlflow."""

from framework.tracking.null import NullTracker
from framework.tracking.tracker import Tracker
from framework.tracking.uri import embedded_uri

__all__ = ["NullTracker", "Tracker", "embedded_uri"]
