"""Trains MIL and RTFM on bags: videos with a label, split by group."""
