"""Distance to a memory bank of normal features, after PatchCore (Roth et al., CVPR 2022). Features come in; scores go
out. The bank is fitted on normal footage (a checkpoint), or learned from the camera's own first minutes (adaptive).
"""
