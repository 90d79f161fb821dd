"""Trains future-frame predictors on normal footage."""
