"""How good scores are, against ground truth. A manifest's intervals, score tables and alerts come in; ROC-AUC, average
precision, events found, delays, false alarms per hour and plots go out. Published annotations become manifests here.
"""
