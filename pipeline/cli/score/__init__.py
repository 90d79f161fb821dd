"""`oddwatch score`: paths come in; scores, alerts, a summary and a report go out."""
