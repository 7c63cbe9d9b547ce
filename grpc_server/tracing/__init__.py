"""Spans of calls and of model swaps, sent to an OpenTelemetry collector off the callers' path."""
