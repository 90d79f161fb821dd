"""How good scores are: ground truth and score tables come in; ROC-AUC, AP, events found, false alarms and plots go
out.
"""
