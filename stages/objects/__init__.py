"""Detectors of objects, by registration: pictures come in; boxes with a class and a score go out, for each picture."""
