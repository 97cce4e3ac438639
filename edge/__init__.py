"""edge-classifier: classifies what a camera sees and publishes the labels over MQTT, without silent losses."""

__version__ = "0.1.0"
