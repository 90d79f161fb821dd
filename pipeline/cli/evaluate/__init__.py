"""`oddwatch evaluate`: labelled footage comes in; figures, plots and metrics.json go out."""
