"""Archived footage (`oddwatch score`): files are claimed and registered as jobs, their scores are written down as they
come. Files to score come in; CSVs, snapshots, records for `--resume` and a summary go out.
"""
