"""Rollouts: runs as training data. See `schema` for what one is."""
