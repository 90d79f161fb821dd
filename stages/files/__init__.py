"""The files that users keep: checkpoints, score CSVs, manifests, and the arrays of others (MATLAB, torch). Paths come
in; validated values go out, or an error that names file and remedy. What is written is whole or absent.
"""
