"""Trains MIL and RTFM from video labels. Videos with features and a label come in, split by group; bags are drawn from
them, and the iterate that ranks the held-out videos best goes out as a checkpoint. Interrupted trainings resume.
"""
