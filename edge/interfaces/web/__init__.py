"""The page, the REST API and the metrics: what people and programs see of the box."""
