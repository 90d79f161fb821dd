"""Distance to normal features, fitted on normal footage or learned from the camera itself. Features come in; scores
go out.
"""
