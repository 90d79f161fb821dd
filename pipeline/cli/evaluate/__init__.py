"""`oddwatch evaluate`: a manifest of labelled footage comes in; it is scored in a stream or as papers do, and figures,
plots and metrics.json go out.
"""
