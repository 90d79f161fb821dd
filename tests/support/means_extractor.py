"""An extractor for tests: a snippet's mean colour, of the whole picture and of its left half."""

import numpy as np

from stages.features.registry import ExtractorKind
from stages.messages import Features

KIND = ExtractorKind(name="means", build="means_extractor:build", analysis_height=48, rescales=True)


class Means:
    """Counts the snippets it sees."""

    name, dim, sparse, analysis_height = "means", 6, False, 48

    def __init__(self, version="means@1"):
        self.id, self.seen = version, 0

    def process(self, batch):
        self.seen += len(batch)
        return [([Features(**s.header(), extractor=self.id, values=values(s.pixels))], {}) for s, _ in batch]

    def finish(self, state):
        return [], {}


def values(pixels):
    halves = pixels, pixels[:, :, : pixels.shape[2] // 2]
    return np.concatenate([half.mean((0, 1, 2)) for half in halves]).astype(np.float32)


def build(name="means", device="cpu", precision="fp32"):
    return Means()
