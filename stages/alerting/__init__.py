"""Alerting: models joined by id -> every frame accounted for, calibrated, fused, and told as events with a life."""
