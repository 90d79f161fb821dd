"""Processes, whatever they work on: what one does to itself first, how it forks a child that never outlives it, and the
settings that all worker processes of a host are told. Knows no stage and no camera.
"""
