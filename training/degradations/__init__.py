"""Synthetic degradations: clean photograph in, degraded photograph out."""
