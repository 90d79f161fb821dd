"""Looks into containers: opens them, walks their boxes, says what they promise and what is missing."""
