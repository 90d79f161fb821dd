"""The files that are read and written: checkpoints, score CSVs, manifests, foreign arrays; whole or not at all."""
