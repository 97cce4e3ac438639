"""Builds the stages, starts, watches and stops them: the service, the pipeline and what schedules the model."""
