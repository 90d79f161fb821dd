"""`oddwatch score`: paths come in (`command`, `files`); `run` takes them through all stages; scores, alerts, a summary
and a report page go out (`result`, `report`).
"""
