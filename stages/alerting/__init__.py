"""Alerting: the scores of all models come in, joined by id; final scores, alerts and each run's account go out.
Scores are calibrated and fused, every decoded frame is accounted for (scored, or in a gap with its cause), and raised
frames become events with a life: open, update, close.
"""
