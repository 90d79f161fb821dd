"""The decode stage: packets are decoded, scaled, timed and grouped. A source and its settings come in; Snippets (16
kept frames at analysis size), Gaps for damaged frames and an End go out. Every decoded frame is in exactly one of them.
"""
