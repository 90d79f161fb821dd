"""Archived footage (`oddwatch score`): files become jobs with a claim, their scores are written down as they come.
Footage comes in; CSVs, records and a summary go out.
"""
