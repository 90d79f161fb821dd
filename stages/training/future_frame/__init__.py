"""Trains future-frame predictors. Normal footage comes in as clips of frames; the network's weights, its calibration on
held-out frames and its training curve go out as a checkpoint.
"""
